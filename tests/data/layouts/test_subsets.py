"""Parts of a data set by stratum."""

from pathlib import Path

import pytest

from assertions import mistake
from flawmap.data.open_data import open_test_data, open_training_data
from flawmap.data.subset import split_location
from flawmap.recipe.settings import DataSettings
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
        (r"C:\lot=7\parts", r"C:\lot=7\parts", {}),
        ("elpv:cell=poly", "elpv", {"cell": "poly"}),
    ],
)
def test_a_location_is_split_from_its_strata(location: str, place: str, only: dict[str, str]):
    assert split_location(location) == (place, only)


def test_an_existing_path_is_not_split(tmp_path: Path):
    odd = tmp_path / "a:b=c"
    write_noise(odd, range(2))
    assert split_location(odd) == (str(odd), {}) and len(open_training_data(odd, DEFAULT).images) == 2


def test_a_restriction_needs_a_name_and_a_value():
    with mistake("'sex=' has no name or no value", "nih:sex=", "for example nih:sex=M,view=PA"):
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


def test_a_stratum_restricts_training_and_test(people: Path):
    training, test = open_training_data(f"{people}:sex=M", DEFAULT), open_test_data(f"{people}:sex=M", DEFAULT)
    assert [image.key for image in training.images] == ["0.png"]
    assert [sample.key for sample in test.samples] == ["2.png", "4.png"]
    assert training.name == test.name == f"{people.name}-M"


@pytest.mark.parametrize("wanted", ["sex=X", "age=9"])
def test_a_stratum_without_images(people: Path, wanted: str):
    for read in (open_training_data, open_test_data):
        with mistake(f"no images with {wanted}", people, "its strata are sex, view"):
            read(f"{people}:{wanted}", DEFAULT)


def test_a_layout_without_strata(mvtec_folder: Path):
    for read in (open_training_data, open_test_data):
        with mistake("no images with sex=M", mvtec_folder, "this layout has no strata"):
            read(f"{mvtec_folder}:sex=M", DEFAULT)
