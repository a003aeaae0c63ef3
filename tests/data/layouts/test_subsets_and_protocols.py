"""Parts of a data set by group, and the published protocols by name."""

from pathlib import Path

import pytest

from assertions import mistake
from flawmap.data.open_data import open_test_data, open_training_data
from flawmap.data.subset import split_location
from flawmap.recipe.settings import DataSettings
from flawmap_bench.protocols import PROTOCOLS, class_locations
from images import noise, write_image, write_noise

DEFAULT = DataSettings()


@pytest.mark.parametrize(
    ("location", "place", "only"),
    [
        ("nih", "nih", {}),
        ("nih:sex=M", "nih", {"sex": "M"}),
        ("a/b:sex=M, view=PA", "a/b", {"sex": "M", "view": "PA"}),
        (r"C:\nih:list=curated", r"C:\nih", {"list": "curated"}),
        (r"C:\nih", r"C:\nih", {}),
        ("elpv:cell=poly", "elpv", {"cell": "poly"}),
    ],
)
def test_a_location_is_split_from_its_groups(location: str, place: str, only: dict[str, str]):
    assert split_location(location) == (place, only)


def test_what_exists_as_a_path_is_one(tmp_path: Path):
    odd = tmp_path / "a:b=c"
    write_noise(odd, range(2))
    assert split_location(odd) == (str(odd), {}) and len(open_training_data(odd, DEFAULT).images) == 2


def test_half_a_restriction_is_refused():
    with mistake("'sex=' restricts nothing", "nih:sex=", "for example nih:sex=M,view=PA"):
        split_location("nih:sex=")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    rows = ["image,split,label,sex"]
    for number, (split, label, sex) in enumerate(
        [("train", 0, "M"), ("train", 0, "F"), ("test", 0, "M"), ("test", 1, "F"), ("test", 1, "M")]
    ):
        write_image(tmp_path / f"{number}.png", noise(number))
        rows.append(f"{number}.png,{split},{label},{sex}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_group_restricts_training_and_test_alike(people: Path):
    training, test = open_training_data(f"{people}:sex=M", DEFAULT), open_test_data(f"{people}:sex=M", DEFAULT)
    assert [image.key for image in training.images] == ["0.png"]
    assert [sample.key for sample in test.samples] == ["2.png", "4.png"]
    assert training.name == test.name == f"{people.name}-M"


@pytest.mark.parametrize("wanted", ["sex=X", "age=9"])
def test_a_group_without_images_is_named(people: Path, wanted: str):
    for read in (open_training_data, open_test_data):
        with mistake(f"no images with {wanted}", people, "groups are sex and view"):
            read(f"{people}:{wanted}", DEFAULT)


def test_a_layout_without_groups_has_no_part(mvtec_folder: Path):
    for read in (open_training_data, open_test_data):
        with mistake("no images with sex=M", mvtec_folder, "groups are"):
            read(f"{mvtec_folder}:sex=M", DEFAULT)


# ---- protocols


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
