"""The published protocols by name."""

from pathlib import Path

from assertions import mistake
from flawmap_bench.protocols import PROTOCOLS, class_locations


def test_the_paper_has_fifteen_classes_textures_first():
    classes = PROTOCOLS["mvtec_ad"].classes
    assert len(classes) == len(set(classes)) == 15
    assert classes[:5] == ("carpet", "grid", "leather", "tile", "wood")
    assert list(classes[5:]) == sorted(classes[5:])  # objects in alphabetical order
    assert [len(PROTOCOLS[name].classes) for name in ("mvtec_ad_2", "visa", "mtd", "elpv", "nih")] == [8, 12, 0, 0, 0]


def test_class_locations_keep_the_order_of_the_columns(tmp_path: Path):
    for name in sorted(PROTOCOLS["visa"].classes, reverse=True):
        (tmp_path / name).mkdir()
    locations = class_locations(PROTOCOLS["visa"], str(tmp_path))
    assert list(locations) == list(PROTOCOLS["visa"].classes) and locations["pcb1"] == str(tmp_path / "pcb1")
    assert class_locations(PROTOCOLS["elpv"], "elpv") == {"": "elpv"}


def test_missing_classes_are_named(tmp_path: Path):
    for name in PROTOCOLS["mvtec_ad_2"].classes[:-2]:
        (tmp_path / name).mkdir()
    problem = "2 of 8 classes of MVTec AD 2 are missing: wallplugs, walnuts"
    with mistake(problem, tmp_path, "unpack the whole archive"):
        class_locations(PROTOCOLS["mvtec_ad_2"], str(tmp_path))
