"""The published protocols of the paper's tables."""

from pathlib import Path

from assertions import mistake
from flawmap_bench.protocols import MVTEC_AD, NIH, TableProtocol, class_locations

FRUIT = TableProtocol("Fruit", classes=("pear", "apple", "plum"))


def test_the_paper_has_fifteen_classes_textures_first_and_five_seeds_of_x_rays():
    classes = MVTEC_AD.classes
    assert len(classes) == len(set(classes)) == 15
    assert classes[:5] == ("carpet", "grid", "leather", "tile", "wood")
    assert list(classes[5:]) == sorted(classes[5:])  # objects in alphabetical order
    assert (NIH.classes, NIH.n_seeds, NIH.pixel_pool) == ((), 5, "truth_only")


def test_class_locations_keep_the_order_of_the_columns(tmp_path: Path):
    for name in sorted(FRUIT.classes):
        (tmp_path / name).mkdir()
    locations = class_locations(FRUIT, str(tmp_path))
    assert list(locations) == ["pear", "apple", "plum"] and locations["plum"] == str(tmp_path / "plum")
    assert class_locations(NIH, "nih") == {"": "nih"}


def test_missing_classes_are_named(tmp_path: Path):
    (tmp_path / "pear").mkdir()
    with mistake("2 of 3 classes of Fruit are missing: apple, plum", tmp_path, "unpack the whole archive"):
        class_locations(FRUIT, str(tmp_path))
