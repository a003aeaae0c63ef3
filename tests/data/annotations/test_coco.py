"""COCO: what its files mean, and damage in them."""

import json
from pathlib import Path

import numpy as np
import pytest

from annotation_files import HEIGHT, WIDTH, coco, names_below, write_images, write_text
from assertions import explained
from flawmap.data.annotations.coco import Coco
from flawmap.data.annotations.shapes import Box, Polygons, RunLengths

# (height, width), run lengths, and the text that pycocotools 2.0 packs them into
PACKED = [
    ((4, 6), [9, 2, 2, 2, 2, 2, 5], "9220003"),
    ((3, 2), [0, 6], "06"),
    ((3, 2), [0, 1, 5], "015"),
    ((9, 7), [1] * 63, "111" + "0" * 60),
]


@pytest.fixture
def read(tmp_path: Path):
    """Writes a file beside the images a.png and b.png, and reads it."""
    write_images(tmp_path, ["a.png", "b.png"])

    def of(content, name: str = "annotations.json", encoding: str = "utf-8"):
        return Coco().read([write_text(tmp_path / name, content, encoding)], names_below(tmp_path))

    return of


def test_boxes_and_images_without_annotations(read, tmp_path):
    with_box, without = read(coco(["a.png", "b.png"], {"bbox": [1, 2, 3, 4.5], "category_id": 2}))
    (mark,) = with_box.marks
    assert (mark.kind, mark.shape) == ("hole", Box((1.0, 2.0, 3.0, 4.5)))
    assert mark.place == f"{tmp_path / 'annotations.json'}: annotations[0]"
    assert (with_box.path, with_box.size_px, with_box.split) == (tmp_path / "a.png", (WIDTH, HEIGHT), None)
    assert (without.path, without.marks) == (tmp_path / "b.png", ())


def test_polygons(read):
    parts = [[1, 1, 5, 1, 5, 5, 1, 5], [8, 8, 10, 8, 10, 10]]
    ((mark,),) = (image.marks for image in read(coco(["a.png"], {"bbox": [1, 1, 9, 9], "segmentation": parts})))
    assert isinstance(mark.shape, Polygons)
    assert mark.shape.outlines == (((1, 1), (5, 1), (5, 5), (1, 5)), ((8, 8), (10, 8), (10, 10)))
    assert mark.shape.bounds() == (1.0, 1.0, 9.0, 9.0)


@pytest.mark.parametrize(("size", "counts", "text"), PACKED)
def test_run_lengths_as_numbers_and_packed(size, counts, text, read):
    image = {"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}
    shapes = []
    for form in (counts, text):
        content = coco([], {"segmentation": {"size": size, "counts": form}, "iscrowd": 1}, images=[image])
        (annotated,) = read(content)
        assert annotated.size_px == (size[1], size[0])
        shapes.append(annotated.marks[0].shape)
    assert shapes[0] == shapes[1] == RunLengths(tuple(counts), *size)


def test_packed_numbers_beyond_five_bits_and_below_zero(read):
    mask = np.zeros((40, 50), bool)
    mask[5:36, 3:49] = True
    mask[10:20, 10:20] = False
    text = "m3o09000000000000VO1;" + "OE1;" * 9 + "O?" + "0" * 56 + "S1"
    (annotated,) = read(
        coco([], {"segmentation": {"size": [40, 50], "counts": text}}, images=[{"id": 1, "file_name": "a.png"}])
    )
    (mark,) = annotated.marks
    assert isinstance(mark.shape, RunLengths) and annotated.size_px == (50, 40)
    np.testing.assert_array_equal(mark.shape.pixels(), mask)


@pytest.mark.parametrize(
    "values",
    [
        {"bbox": [1, 2, 0, 4]},
        {"bbox": []},
        {"bbox": None, "segmentation": []},
        {"segmentation": [[1, 2, 3, 4]]},
        {"segmentation": {"size": [12, 16], "counts": [192]}},
    ],
)
def test_a_mark_without_an_area_is_still_a_mark(values, read):
    (annotated,) = read(coco(["a.png"], values))
    assert [(mark.kind, mark.shape) for mark in annotated.marks] == [("scratch", None)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark(encoding, read):
    (annotated,) = read(coco(["a.png"], {"bbox": [1, 2, 3, 4]}), encoding=encoding)
    assert len(annotated.marks) == 1


def test_ids_may_be_text_and_names_may_be_of_another_computer(read, tmp_path):
    images = [{"id": "x", "file_name": "D:\\parts\\a.png"}]
    annotations = [{"image_id": "x", "category_id": "s", "bbox": [1, 2, 3, 4]}]
    (annotated,) = read({"images": images, "annotations": annotations, "categories": [{"id": "s", "name": 7}]})
    assert (annotated.path, annotated.size_px, annotated.marks[0].kind) == (tmp_path / "a.png", None, "7")


def test_the_name_of_the_file_says_the_split(read, tmp_path):
    write_images(tmp_path, ["train2017/1.png", "val2017/1.png"])
    for split in ("train", "val"):
        (annotated,) = read(coco(["1.png"], {"bbox": [1, 2, 3, 4]}), f"instances_{split}2017.json")
        assert (annotated.split, annotated.path) == (split, tmp_path / f"{split}2017" / "1.png")


A, BOX = "a.png", {"bbox": [1, 2, 3, 4]}
OUTLINE = {"segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "the COCO annotations cannot be read: Input data was truncated"),
        ('{"images": [], "annotations": NaN}', "the COCO annotations cannot be read: JSON is malformed"),
        ('{"images": ' + "[" * 100_000, "the COCO annotations"),
        (json.dumps({"images": {}, "annotations": []}), "the COCO annotations cannot be read: Expected `array`"),
        (json.dumps([{"image_id": 1}]), "the COCO annotations cannot be read: Expected `object`"),
        (coco([A], {"bbox": [1, 2, "3", 4]}), "the COCO annotations cannot be read: Expected `float`, got `str`"),
        (coco([A], {"bbox": [1, 2, 3]}), "[1.0, 2.0, 3.0] is not a box"),
        (coco([A], BOX | {"image_id": 7}), "there is no image with the id 7"),
        (coco([A], BOX | {"category_id": 9}), "there is no category with the id 9"),
        (coco([A], {"category_id": None, "caption": "a part"}), "an annotation has no category, box or outline"),
        (coco([A, "z.png", "y.png"], BOX), "2 of 3 images are not there, first: z.png"),
        (coco([A], images=[{"id": 1, "file_name": A}] * 2), "two images have the same id"),
        (coco([A], {"bbox": [2, 2, 12, 10], "area": 80}), "the box [2, 2, 12, 10] has the area 80 only if it is two"),
        (coco([A], OUTLINE | {"bbox": [9, 9, 4, 4]}), "the box [9, 9, 4, 4] is not around its outline, [1, 1, 4, 4]"),
        (coco([A], {"segmentation": [[1, 1, 5, 1, 5]]}), "a polygon of 5 numbers"),
        (coco([A], {"segmentation": [1, 1, 5, 1, 5, 5]}), "the COCO annotations cannot be read: Expected `array`"),
        (coco([A], {"segmentation": {"size": [12, 16], "counts": [100]}}), "the run lengths cover 100 pixels, and the"),
        (coco([A], {"segmentation": {"size": [12, 16], "counts": [200, -8]}}), "the run lengths are damaged"),
        (coco([A], {"segmentation": {"size": [10**6, 10**6], "counts": []}}), "the run lengths are damaged"),
        (coco([A], {"segmentation": {"size": [12, 16], "counts": "\u00fc"}}), "the packed run lengths are damaged"),
        (coco([A], {"segmentation": {"size": [12, 16], "counts": "o" * 99}}), "the packed run lengths are damaged"),
        (coco([A], {"segmentation": {"size": [12, 16], "counts": "9o"}}), "the packed run lengths end within a number"),
        (
            coco([A], {"segmentation": {"size": [2, 3], "counts": [1, 5]}}),
            "a.png has marks for 3 x 2 px and for 16 x 12 px",
        ),
    ],
)
def test_damage(content, problem, read, tmp_path):
    error = explained(lambda: read(content))
    assert error.problem.startswith(problem)
    assert error.place.startswith(str(tmp_path / "annotations.json")) and error.remedy


def test_a_box_that_its_area_confirms_is_right(read):
    (annotated,) = read(coco([A], {"bbox": [2, 2, 10, 8], "area": 80}))
    assert annotated.marks[0].shape == Box((2.0, 2.0, 10.0, 8.0))


def test_a_huge_file_is_not_read(read, tmp_path):
    file = write_text(tmp_path / "annotations.json", coco([A]))
    with file.open("r+b") as opened:
        opened.truncate(1_000_000_001)
    error = explained(lambda: Coco().read([file], names_below(tmp_path)))
    assert error.problem == "the COCO annotations have 1,000,000,001 bytes, more than 1,000,000,000"
