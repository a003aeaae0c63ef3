"""YOLO: what its files mean, and damage in them."""

from pathlib import Path

import pytest

from annotation_files import names_below, write_images, write_text
from assertions import explained
from flawmap.data.annotations.find import annotation_files
from flawmap.data.annotations.shapes import Box, Polygons
from flawmap.data.annotations.yolo import Yolo


@pytest.fixture
def read(tmp_path: Path):
    """Writes labels of images/train/a.png, and reads all that is there."""
    write_images(tmp_path / "images" / "train", ["a.png", "b.png"])

    def of(labels: str, table: str | None = "names: [scratch, hole]\ntrain: images/train\n", encoding: str = "utf-8"):
        write_text(tmp_path / "labels" / "train" / "a.txt", labels, encoding)
        if table is not None:
            write_text(tmp_path / "data.yaml", table, encoding)
        found = annotation_files(tmp_path).by_format
        ((format_, files),) = found.items()
        return format_.read(files, names_below(tmp_path))

    return of


def test_boxes_are_shares_around_a_centre(read, tmp_path):
    (annotated,) = read("0 0.5 0.5 0.25 0.5\n\n1 0.75 0.25 0.5 0.5\n")
    assert (annotated.path, annotated.are_shares, annotated.size_px) == (tmp_path / "images/train/a.png", True, None)
    assert [(mark.kind, mark.shape) for mark in annotated.marks] == [
        ("scratch", Box((0.375, 0.25, 0.25, 0.5))),
        ("hole", Box((0.5, 0.0, 0.5, 0.5))),
    ]
    assert annotated.marks[1].place == f"{tmp_path / 'labels/train/a.txt'}: line 3"


def test_segmentation_and_oriented_boxes_are_polygons(read):
    (annotated,) = read("0 0.1 0.1 0.9 0.1 0.5 0.9\n1 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n")
    outlines = [mark.shape.outlines[0] for mark in annotated.marks if isinstance(mark.shape, Polygons)]
    assert outlines == [((0.1, 0.1), (0.9, 0.1), (0.5, 0.9)), ((0.1, 0.1), (0.2, 0.1), (0.2, 0.2), (0.1, 0.2))]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    "table", ["nc: 2\nnames:\n  0: scratch\n  1: hole\n", "names: {1: hole, 0: scratch}\nval: x\n"]
)
def test_saved_on_windows_with_names_by_number(encoding, table, read):
    (annotated,) = read("1 0.5 0.5 .1 1e-1\r\n", table.replace("\n", "\r\n"), encoding)
    assert [mark.kind for mark in annotated.marks] == ["hole"]


def test_names_in_a_list_and_no_names(read, tmp_path):
    (annotated,) = read("1 0.5 0.5 0.1 0.1\n", table=None)
    assert [mark.kind for mark in annotated.marks] == ["class 1"]
    write_text(tmp_path / "labels" / "classes.txt", "scratch\nhole\n")
    (annotated,) = read("1 0.5 0.5 0.1 0.1\n", table=None)
    assert [mark.kind for mark in annotated.marks] == ["hole"]


def test_labels_beside_their_images(tmp_path):
    write_images(tmp_path, ["a.png", "b.png", "c.png"])
    files = [write_text(tmp_path / f"{name}.txt", "0 0.5 0.5 0.1 0.1\n") for name in "ab"]
    write_text(tmp_path / "c.txt", "0.0 0.5 0.5 0.1 0.1\n")  # some tools write the class so
    write_text(tmp_path / "notes.txt", "shift 2\n")
    annotated = Yolo().read(files, names_below(tmp_path))
    assert [image.path.name for image in annotated] == ["a.png", "b.png", "c.png"]


def test_a_box_without_width_marks_an_unknown_place(read):
    (annotated,) = read("0 0.5 0.5 0 0.1\n")
    assert [mark.shape for mark in annotated.marks] == [None]


@pytest.mark.parametrize(
    ("labels", "table", "place", "problem"),
    [
        ("2 0.5 0.5 0.1 0.1\n", "names: [a, b]\nnc: 2\n", "line 1", "there is no class 2: 2 are named"),
        (
            "0 0.5 0.5 0.1 0.1 0.98\n",
            None,
            "line 1",
            "a line has a class and 5 numbers, but a box has 4 and a polygon 6",
        ),
        (
            "0 0.5 0.5 0.1 0.1\n0 1.5 0.5 0.1 0.1\n",
            None,
            "line 2",
            "the centre of a box is outside the image: 1.5, 0.5",
        ),
        ("0 0.5 0.5 0.1 0.1\n", "names: [a\nnc: 1\n", "data.yaml", "the names of the classes cannot be read: "),
        ("0 0.5 0.5 0.1 0.1\n", "names: 3\nnc: 1\n", "data.yaml", "the names of the classes cannot be read: "),
        ("0 0.5 0.5 0.1 0.1\n", "names: [a]\nkpt_shape: [4, 2]\nnc: 1", "data.yaml", "these are labels of key points"),
    ],
)
def test_damage(labels, table, place, problem, read, tmp_path):
    error = explained(lambda: read(labels, table))
    assert error.problem.startswith(problem)
    assert error.place.startswith(str(tmp_path)) and error.place.endswith(place) and error.remedy


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("0 120 80 20 20\n", "120 is not a share of the image"),
        ("0 0.5 0.5 0.1\n", "a line has a class and 3 numbers, but a box has 4 and a polygon 6, 8, ..."),
        (
            "scratch 0.5 0.5 0.1 0.1\n",
            "a line of labels holds numbers only (could not convert string to float: 'scratch')",
        ),
        ("0.5 0.5 0.5 0.1 0.1\n", "not a class number and shares of the image: 0.5 0.5 0.5 0.1 0.1"),
        ("-1 0.5 0.5 0.1 0.1\n", "not a class number and shares of the image: -1 0.5 0.5 0.1 0.1"),
        ("0 nan 0.5 0.1 0.1\n", "not a class number and shares of the image: 0 nan 0.5 0.1 0.1"),
    ],
)
def test_a_file_of_labels_that_is_none_among_others(labels, problem, read, tmp_path):
    write_text(tmp_path / "labels" / "train" / "b.txt", labels)
    error = explained(lambda: read("0 0.5 0.5 0.1 0.1\n", table=None))
    assert (error.problem, error.place) == (problem, f"{tmp_path / 'labels/train/b.txt'}: line 1")


def test_labels_without_their_image(read, tmp_path):
    file = write_text(tmp_path / "labels" / "train" / "z.txt", "0 0.5 0.5 0.1 0.1\n")
    error = explained(lambda: read("0 0.5 0.5 0.1 0.1\n"))
    assert (error.problem, error.place) == ("there is no image z", str(file))


def test_two_lists_of_names_that_disagree(read, tmp_path):
    write_text(tmp_path / "classes.txt", "hole\nscratch\n")
    error = explained(lambda: read("0 0.5 0.5 0.1 0.1\n"))
    assert error.problem == f"the classes are named in two ways, here and in {tmp_path / 'data.yaml'}"
    assert error.place == str(tmp_path / "classes.txt")
