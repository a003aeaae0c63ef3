"""Products and cameras of images: columns of a manifest, folders, and parts of names."""

from pathlib import Path

import pytest

from assertions import explained, mistake
from flawmap.data.checks import check_good_images
from flawmap.data.open_data import open_test_data, open_training_data
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import DataSettings
from images import texture, write_image

HEAD = "image,split,label,product,camera\n"
DEFAULT = DataSettings()


def write_manifest(folder: Path, *rows: str) -> Path:
    for number, row in enumerate(rows):
        write_image(folder / row.partition(",")[0], texture(number, 12, 12))
    (folder / "manifest.csv").write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_a_manifest_names_them_and_they_are_strata_of_a_test(tmp_path: Path):
    rows = ("a.png,train,0,screw,left", "b.png,train,0,nut,", "c.png,test,0,nut,left", "d.png,test,1,screw,")
    write_manifest(tmp_path, *rows)
    data = open_training_data(tmp_path, DEFAULT)
    assert [(image.product, image.camera) for image in data.images] == [("screw", "left"), ("nut", None)]
    assert data.remarks == () and [image.group for image in data.images] == [None, None]
    assert [image.camera for image in check_good_images(data).data.images] == ["left", None]
    test = open_test_data(tmp_path, DEFAULT)
    assert [(sample.product, sample.camera) for sample in test.samples] == [("nut", "left"), ("screw", None)]
    assert test.protocol.strata == ("product", "camera")
    only = open_training_data(f"{tmp_path}:product=screw", DEFAULT)
    assert [image.key for image in only.images] == ["a.png"]


def test_a_product_for_some_images_only_is_refused(tmp_path: Path):
    write_manifest(tmp_path, "a.png,train,0,screw,", "b.png,train,0,,")
    with mistake("1 of 2 images have no product, first: b.png", tmp_path, "the column product"):
        open_training_data(tmp_path, DEFAULT)


@pytest.mark.parametrize(
    ("row", "problem", "remedy"),
    [
        ("a.png,train,0,M4 x 10,", "row 2 has the product 'M4 x 10': names have", "write M4-x-10"),
        ("a.png,train,0,nut,CON", "row 2 has the camera 'CON', which Windows keeps", "write camera-CON"),
        ("a.png,train,0,default,", "row 2 has the product 'default', which is the threshold", "write product-default"),
    ],
)
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, row: str, problem: str, remedy: str):
    write_manifest(tmp_path, row)
    error = explained(lambda: open_training_data(tmp_path, DEFAULT))
    assert error.problem.startswith(problem) and error.remedy == remedy


def test_folders_and_names_of_files_name_products(tmp_path: Path, mvtec_folder: Path):
    for folder in ("screw", "nut"):
        write_image(tmp_path / "parts" / folder / "day_1" / f"{folder}_7.png", texture(len(folder), 12, 12))
    settings = DataSettings(normal=".", product_by="folder")
    assert [i.product for i in open_training_data(tmp_path / "parts", settings).images] == ["nut", "screw"]
    places = [tmp_path / "parts" / "screw", tmp_path / "parts" / "nut"]  # their names begin the keys
    assert [i.product for i in open_training_data(places, settings).images] == ["nut", "screw"]
    by_name = DataSettings(normal=".", product_by="{product}_*")
    assert [i.product for i in open_training_data(tmp_path / "parts", by_name).images] == ["nut", "screw"]
    test = open_test_data([mvtec_folder], DataSettings(product_by="folder"))
    assert {sample.product for sample in test.samples} == {"test"} and test.protocol.strata == ("product",)


def test_images_without_the_pattern_or_a_folder_are_refused(good_folder: Path):
    problem = "data.product_by=folder gives 24 of 24 images no product, first: 000.png"
    with mistake(problem, good_folder, "a folder of its own"):
        open_training_data(good_folder, DataSettings(product_by="folder"))
    with mistake(problem.replace("folder", "{product}_*"), good_folder, "a pattern that fits"):
        open_training_data(good_folder, DataSettings(product_by="{product}_*"))


@pytest.mark.parametrize(("value", "problem"), [("part", "has to hold {product} once"), ("{product}*", "product ends")])
def test_the_setting_is_checked(value: str, problem: str):
    error = explained(lambda: load_recipe("quick", [f"data.product_by={value}"]))
    assert problem in error.problem and "{product}_*" in error.remedy
