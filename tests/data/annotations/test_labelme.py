"""labelme: what its files mean, and damage in them."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotation_files import HEIGHT, WIDTH, labelme, names_below, rectangle, write_images, write_text
from assertions import explained
from flawmap.data.annotations.labelme import Labelme
from flawmap.data.annotations.shapes import Bitmap, Box, Polygons


@pytest.fixture
def read(tmp_path: Path):
    """Writes a.json beside a.png, and reads it."""
    write_images(tmp_path, ["a.png", "b.png"])

    def of(content, name: str = "a.json", encoding: str = "utf-8"):
        return Labelme().read([write_text(tmp_path / name, content, encoding)], names_below(tmp_path))

    return of


def shape_of(read, shape):
    (annotated,) = read(labelme("a.png", shape))
    (mark,) = annotated.marks
    return mark.shape


def shape(kind: str | None, *points, **further):
    return {"label": "scratch", "points": [list(point) for point in points], "shape_type": kind} | further


def test_rectangles_in_any_order_of_their_corners(read, tmp_path):
    (annotated,) = read(labelme("a.png", rectangle((9, 8), (1, 2.5)), rectangle((1, 2.5), (9, 8), label="hole")))
    assert [(mark.kind, mark.shape) for mark in annotated.marks] == [
        ("scratch", Box((1.0, 2.5, 8.0, 5.5))),
        ("hole", Box((1.0, 2.5, 8.0, 5.5))),
    ]
    assert (annotated.path, annotated.size_px) == (tmp_path / "a.png", (WIDTH, HEIGHT))
    assert annotated.marks[1].place == f"{tmp_path / 'a.json'}: shapes[1]"


def test_polygons_also_where_the_type_is_missing(read):
    corners = ((1.0, 1.0), (5.0, 1.0), (5.0, 5.0))
    for kind in ("polygon", None):
        assert shape_of(read, shape(kind, *corners)) == Polygons((corners,))
    assert shape_of(read, {"label": "scratch", "points": corners}) == Polygons((corners,))
    assert isinstance(shape_of(read, shape("rectangle", *corners, (1, 5))), Polygons)


def test_a_circle_has_the_area_of_one(read):
    circle = shape_of(read, shape("circle", (50, 40), (50, 70)))
    assert isinstance(circle, Polygons)
    np.testing.assert_allclose(circle.bounds(), (20, 10, 60, 60), atol=0.1)
    mask = np.zeros((100, 100), bool)
    circle.draw(mask)
    assert abs(mask.sum() / (np.pi * 30**2) - 1) < 0.01


@pytest.mark.parametrize("mode", ["L", "1", "RGBA"])
def test_a_mask_lies_at_its_corner(mode, read):
    pixels = np.array([[0, 255, 0], [255, 255, 0]], np.uint8)
    image = Image.fromarray(pixels)
    if mode == "RGBA":
        image = Image.merge("RGBA", [image, image, image, Image.new("L", image.size, 255)])
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    found = shape_of(read, shape("mask", (4, 2), (7, 4), mask=text))
    assert isinstance(found, Bitmap) and (found.left, found.top) == (4, 2)
    np.testing.assert_array_equal(found.pixels, pixels > 0)


@pytest.mark.parametrize("kind", ["point", "line", "linestrip", "points", "polygon", "rectangle", "circle"])
def test_a_mark_without_an_area_is_still_a_mark(kind, read):
    points = [(3, 3), (3, 3)]
    assert shape_of(read, shape(kind, *points)) is None


@pytest.mark.parametrize("name", ["..\\images\\a.png", "C:\\parts\\a.png", "/home/me/a.png", None, "", "renamed.jpg"])
def test_the_image_beside_the_file(name, read, tmp_path):
    (annotated,) = read(labelme(name, imageData="x" * 1000))
    assert annotated.path == tmp_path / "a.png"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark(encoding, read):
    (annotated,) = read(labelme("a.png", rectangle((1, 1), (2, 2), label=5)), encoding=encoding)
    assert [mark.kind for mark in annotated.marks] == ["5"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "the labelme annotations cannot be read: Input data was truncated"),
        ('{"shapes": [{"points": [[NaN, 1]]}]}', "the labelme annotations cannot be read: JSON is malformed"),
        ('{"shapes": [{"points": [[1e999, 1]]}]}', "the labelme annotations cannot be read: Number out of range"),
        ('{"shapes": [{"points": ' + "[" * 100_000, "the labelme annotations"),
        ({"shapes": {}, "imagePath": "a.png"}, "the labelme annotations cannot be read: Expected `array`"),
        (labelme("a.png", shape("polygon", (1, 2), (3,), (4, 5))), "a point is not two numbers"),
        (
            labelme("a.png", shape("cuboid", (1, 2), (3, 4))),
            "a shape of the type 'cuboid' is not read (polygon, rectangle",
        ),
        (labelme("a.png", shape("circle", (1, 2))), "a circle has two points, and this one 1"),
        (labelme("a.png", shape("mask", (1, 2), (3, 4), mask="?")), "the mask is not in base 64"),
        (labelme("a.png", shape("mask", (1, 2), (3, 4), mask="AAAA")), "not an image"),
        (labelme("a.png", shape("mask", (1, 2), (3, 4))), "the file is empty (0 bytes)"),
    ],
)
def test_damage(content, problem, read, tmp_path):
    error = explained(lambda: read(content))
    assert error.problem.startswith(problem)
    assert error.place.startswith(str(tmp_path / "a.json")) and error.remedy


def test_an_image_that_is_not_there(read, tmp_path):
    error = explained(lambda: read(labelme("z.png"), "y.json"))
    assert (error.problem, error.place) == ("there is no image z.png", str(tmp_path / "y.json"))
