"""Lists of images to judge: what they say of each image, and what is wrong with one."""

from pathlib import Path

import pytest

from assertions import files_and_bytes
from flawmap.data.find_images import find_images_anywhere
from flawmap.data.image_list import Shows, read_image_list
from flawmap.errors import UserError
from images import striped, write_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/2.png", "3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, striped(8, 8))
    return tmp_path


def listed(folder: Path, text: str, name: str = "new.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_each_image_has_what_its_row_says_in_the_order_of_the_list(folder: Path):
    path = listed(folder, "camera;image;Product\nleft;3.png;screw\n;a/2.png;\nright;a\\1.png;\n")
    before = files_and_bytes(folder)
    found = read_image_list(path)
    assert list(found.items()) == [
        (folder / "3.png", Shows("screw", "left")),
        (folder / "a/2.png", Shows()),
        (folder / "a/1.png", Shows(None, "right")),
    ]
    assert files_and_bytes(folder) == before


def test_a_manifest_is_a_list_of_all_its_rows(folder: Path):
    path = listed(folder, "image,split,label,group,camera\n3.png,train,0,x,left\na/1.png,test,1,y,right\n")
    assert read_image_list(path) == {folder / "3.png": Shows(None, "left"), folder / "a/1.png": Shows(None, "right")}


def test_lists_stand_beside_files_and_folders_and_each_image_counts_once(folder: Path):
    path = listed(folder, "image,camera\n3.png,left\n")
    found = find_images_anywhere([str(folder / "a"), str(path), str(folder / "3.png")])
    assert found.listing.images == (folder / "a/1.png", folder / "a/2.png", folder / "3.png")
    assert found.shows == {folder / "3.png": Shows(None, "left")}


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("file,camera\n3.png,left\n", "does not name the columns", "image,product,camera"),
        ("image,camera\n", "no row below its header", "add one row"),
        ("image,camera\n,left\n", "row 2 has no image", "fill it in"),
        ("image\n3.png\n./3.png\n", r"row 3 names \./3\.png again", "remove one"),
        ("image\nnew/3.png\n", r"row 2: no such image: new/3\.png", "write 3.png"),
        ("image,camera\n3.png,left/top\n", "row 2 has the camera 'left/top'", "write left-top"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(folder: Path, text: str, problem: str, remedy: str):
    path = listed(folder, text)
    with pytest.raises(UserError, match=problem) as error:
        read_image_list(path)
    assert error.value.place == str(path)
    assert remedy in error.value.remedy


def test_two_lists_that_contradict_each_other_are_refused(folder: Path):
    paths = [listed(folder, f"image,camera\n3.png,{camera}\n", f"{camera}.csv") for camera in ("left", "right")]
    with pytest.raises(UserError, match=r"3\.png has another product or camera in an earlier list"):
        find_images_anywhere(list(map(str, paths)))
    assert find_images_anywhere([str(paths[0])] * 2).listing.images == (folder / "3.png",)
