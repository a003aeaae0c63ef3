"""Pascal VOC: what its files mean, and damage in them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotation_files import HEIGHT, WIDTH, names_below, voc, write_images, write_text
from assertions import explained
from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.shapes import Bitmap, Box
from flawmap.data.annotations.voc import PascalVoc


@pytest.fixture
def read(tmp_path: Path):
    """Writes Annotations/a.xml beside JPEGImages, and reads it."""
    write_images(tmp_path / "JPEGImages", ["a.png", "b.png"])

    def of(text: str, name: str = "a.xml", encoding: str = "utf-8"):
        file = write_text(tmp_path / "Annotations" / name, text, encoding)
        return PascalVoc().read([file], names_below(tmp_path / "JPEGImages"))

    return of


def test_corners_are_pixels_counted_from_1(read, tmp_path):
    (annotated,) = read(voc("a.png", ("scratch", (1, 1, 3, 2)), ("hole", (2.5, 3, 16, 12))))
    assert [(mark.kind, mark.shape) for mark in annotated.marks] == [
        ("scratch", Box((0.0, 0.0, 3.0, 2.0))),
        ("hole", Box((1.5, 2.0, 14.5, 10.0))),
    ]
    assert (annotated.path, annotated.size_px) == (tmp_path / "JPEGImages" / "a.png", (WIDTH, HEIGHT))


@pytest.mark.parametrize("filename", [None, "", "a", "a.jpg", "C:\\x\\a.png", "renamed.png"])
def test_the_name_of_the_file_counts_where_filename_names_no_image(filename, read, tmp_path):
    (annotated,) = read(voc(filename))
    assert (annotated.path, annotated.marks) == (tmp_path / "JPEGImages" / "a.png", ())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_saved_on_windows_with_lines_and_an_encoding(encoding, end, read):
    text = voc("a.png", ("scratch", (1, 1, 3, 2))).replace("><", f">{end}  <")
    (annotated,) = read(text, encoding=encoding)
    assert [mark.kind for mark in annotated.marks] == ["scratch"]


@pytest.mark.parametrize("size", ["", "<width>0</width><height>0</height>", "<width></width>"])
def test_a_size_that_is_not_known(size, read):
    (annotated,) = read(voc("a.png", size=size))
    assert annotated.size_px is None


def test_lists_of_names_say_the_split(read, tmp_path):
    write_text(tmp_path / "ImageSets" / "Main" / "val.txt", "a\nc 1\n")
    write_text(tmp_path / "ImageSets" / "Main" / "train.txt", "\ufeffb -1\r\n\r\n")
    assert [read(voc(f"{name}.png"), f"{name}.xml")[0].split for name in "ab"] == ["val", "train"]


def classes() -> np.ndarray:
    """Two classes with the void outline of one of them."""
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[2:6, 2:6], numbers[3:5, 3:5], numbers[8:10, 8:12] = 255, 1, 2
    return numbers


def write_classes(folder: Path, name: str, numbers: np.ndarray, mode: str = "P") -> Path:
    image = Image.fromarray(numbers)
    if mode == "P":
        image = image.convert("P")
        image.putdata(numbers.ravel().tolist())
    path = folder / "SegmentationClass" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["P", "L"])
def test_a_mask_of_classes_counts_without_its_void_outline(mode, read, tmp_path):
    write_classes(tmp_path, "a", classes(), mode)
    (annotated,) = read(voc("a.png", ("scratch", (3, 3, 6, 6)), ("hole", (9, 9, 12, 10))))
    shapes = [mark.shape for mark in annotated.marks if isinstance(mark.shape, Bitmap)]
    for shape, number in zip(shapes, (1, 2), strict=True):
        np.testing.assert_array_equal(shape.pixels, classes() == number)
    assert {mark.kind for mark in annotated.marks} == {"hole", "scratch"}
    assert annotated.size_px == (WIDTH, HEIGHT)


def test_masks_without_files_of_their_own(read, tmp_path):
    write_classes(tmp_path, "b", classes())
    empty, masked = read(voc("a.png"))
    assert (empty.marks, masked.path) == ((), tmp_path / "JPEGImages" / "b.png")
    assert [mark.kind for mark in masked.marks] == ["", ""]


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><annotation><filename>&y;</filename></annotation>'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB, "the annotations declare a document type, which may hold entities"),
        (
            f"<!DOCTYPE annotation SYSTEM 'file:///etc/hostname'>{voc('a.png')}",
            "the annotations declare a document type",
        ),
        ("<annotation><filename>a.png</annotation>", "the annotations cannot be read: mismatched tag"),
        ("", "the annotations cannot be read: no element found"),
        ("<a>" * 60 + "</a>" * 60, "the annotations are nested too deeply"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "the annotations cannot be read: unknown encoding"),
        (voc("a.png", ("hole", (5, 1, 3, 2))), "the box of 'hole' has its corners exchanged: (5, 1) and (3, 2)"),
        (voc("a.png", ("hole", ("x", 1, 3, 2))), "xmin is x, must be a number"),
        (voc("a.png", ("hole", ("", 1, 3, 2))), "xmin is missing, must be a number"),
        (voc("a.png", ("hole", ("nan", 1, 3, 2))), "xmin is nan, must be a number"),
        (voc("a.png", ("hole", (1, 1, "inf", 2))), "xmax is inf, must be a number"),
        (voc("a.png", size="<width>wide</width>"), "size/width is wide, must be a number"),
        (
            "<annotation><object><name>hole</name><robndbox><cx>1</cx></robndbox></object></annotation>",
            "the object 'hole' has no bndbox",
        ),
    ],
)
def test_damage(text, problem, read, tmp_path):
    error = explained(lambda: read(text))
    assert error.problem.startswith(problem)
    assert error.place == str(tmp_path / "Annotations" / "a.xml") and error.remedy


def test_an_image_that_is_not_there(read, tmp_path):
    error = explained(lambda: read(voc("z.png"), "y.xml"))
    assert (error.problem, error.place) == ("there is no image z.png", str(tmp_path / "Annotations" / "y.xml"))
    file = tmp_path / "Annotations" / "y.xml"
    assert PascalVoc().read([file], ImageNames([tmp_path / "a.png"], are_complete=False)) == []


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), "the mask marks nothing, and the boxes of its image do"),
        (np.ones((5, 4), np.uint8), "the mask is 4 x 5 px, and the annotations are for 16 x 12 px"),
        (np.ones((HEIGHT, WIDTH, 3), np.uint8), "a mask of classes has one number for each pixel, and this one is RGB"),
    ],
)
def test_a_mask_that_contradicts(numbers, problem, read, tmp_path):
    path = write_classes(tmp_path, "a", numbers, "as it is")
    error = explained(lambda: read(voc("a.png", ("hole", (1, 1, 3, 2)))))
    assert (error.problem, error.place) == (problem, str(path))
