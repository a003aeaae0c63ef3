"""Which image an annotation file means."""

from pathlib import Path

import pytest

from assertions import explained, mistake
from flawmap.data.annotations.image_names import ImageNames

HERE = Path("/data/set")


def names(*images: str) -> ImageNames:
    return ImageNames([HERE / image for image in images])


@pytest.mark.parametrize(
    "name",
    [
        *("a.png", "./a.png", "images/a.png", "../images/a.png", "other/folder/a.png", "/home/me/images/a.png"),
        *("C:\\Users\\me\\images\\a.png", "..\\images\\a.png", "A.PNG", " a.png ", "a", "a.jpg", "file:///x/a.jpeg"),
    ],
)
def test_a_name_of_another_computer_another_folder_or_another_ending(name):
    assert names("images/a.png", "images/b.png").find(name, HERE / "annotations.json") == HERE / "images/a.png"


@pytest.mark.parametrize("name", ["c.png", "", "images", "a.png.bak", "aa.png"])
def test_a_name_of_no_image(name):
    assert names("images/a.png").find(name, HERE / "annotations.json") is None


def test_the_ending_counts_if_there_is_a_choice():
    both = names("a.png", "a.jpg", "img.001.png", "img.png")
    assert both.find("a.jpg", HERE / "x.json") == HERE / "a.jpg"
    assert both.find("img.001", HERE / "x.json") == HERE / "img.001.png"
    assert both.find("img", HERE / "x.json") == HERE / "img.png"
    assert "may be" in explained(lambda: both.find("a.bmp", HERE / "x.json")).problem


@pytest.mark.parametrize(
    ("images", "name", "file", "expected"),
    [
        (("train/1.png", "val/1.png"), "val/1.png", "annotations.json", "val/1.png"),
        (("train/1.png", "val/1.png"), "1.png", "val/_annotations.coco.json", "val/1.png"),
        (("1.png", "old/1.png"), "1.png", "a.json", "1.png"),
        (("images/train/1.png", "images/val/1.png"), "1", "labels/val/1.txt", "images/val/1.png"),
        (("train/images/1.png", "valid/images/1.png"), "1", "valid/labels/1.txt", "valid/images/1.png"),
        (("a/JPEGImages/1.png", "b/JPEGImages/1.png"), "1.png", "b/Annotations/1.xml", "b/JPEGImages/1.png"),
        (("cam1/day1/1.png", "cam2/day1/1.png"), "D:\\cam2\\day1\\1.png", "x.json", "cam2/day1/1.png"),
    ],
)
def test_folders_decide_between_images_of_the_same_name(images, name, file, expected):
    for order in (images, images[::-1]):
        assert names(*order).find(name, HERE / file) == HERE / expected


def test_two_images_that_fit_equally_well():
    both = names("train/1.png", "val/1.png")
    file = HERE / "all.json"
    with mistake(f"1.png may be {HERE}/train/1.png and {HERE}/val/1.png", file, "rename one of the images"):
        both.find("1.png", file)


def test_the_first_name_that_there_is_counts():
    images, file = names("a.png"), HERE / "x.json"
    assert images.find_any(["", "b.png", "a"], file, "copy it") == HERE / "a.png"
    with mistake("there is no image b.png", file, "copy it"):
        images.find_any(["b.png", "c.png"], file, "copy it")
    assert ImageNames([HERE / "a.png"], are_complete=False).find_any(["b.png"], file, "copy it") is None


def test_an_accent_may_be_written_in_two_ways():
    assert names("u\u0308.png").find("\u00fc.png", HERE / "x.json") == HERE / "u\u0308.png"
