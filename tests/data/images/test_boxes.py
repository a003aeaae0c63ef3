"""Boxes of defects, and signs that their numbers mean something else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assertions import mistake
from flawmap.data.images.boxes import boxes_to_mask, fit_as_corners, leave_image, pixels_in_boxes, remarks_on_boxes
from flawmap.data.sample import Boxes

COORDINATE = st.floats(-6, 14) | st.integers(-6, 14).map(float)
BOX = st.tuples(COORDINATE, COORDINATE, st.floats(0.01, 20), st.floats(0.01, 20))
REMEDY = "boxes are x, y, width and height in pixels of the image as it is displayed"


@given(boxes=st.lists(BOX, max_size=4), height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_mask_of_boxes_is_their_union(boxes: list, height: int, width: int):
    expected = [
        [
            any(np.floor(x) <= c < np.floor(x + w) and np.floor(y) <= r < np.floor(y + h) for x, y, w, h in boxes)
            for c in range(width)
        ]
        for r in range(height)
    ]
    mask = boxes_to_mask(Boxes(tuple(boxes)), height, width)
    assert mask.dtype == bool and mask.tolist() == expected


@pytest.mark.parametrize("box", [(0.0, 0.0, 5.0, 4.0), (-10.0, -10.0, 99.0, 1e300)])
def test_a_box_as_large_as_the_image_covers_all_of_it(box: tuple):
    mask = pixels_in_boxes(Boxes((box,)), 4, 5, "x.png")
    assert mask.shape == (4, 5) and mask.all()


@pytest.mark.parametrize("box", [(5.0, 0.0, 3.0, 3.0), (0.0, -3.0, 3.0, 3.0), (1.1, 1.1, 0.5, 9.0)])
def test_a_box_outside_the_image_is_an_error(box: tuple):
    written = ", ".join(f"{value:g}" for value in box)
    with mistake(f"no box covers a pixel of the image (5 x 4 px), first: [{written}]", "test/x.png", REMEDY):
        pixels_in_boxes(Boxes((box,)), 4, 5, "test/x.png")


@pytest.mark.parametrize(
    "boxes",
    [
        [(0.1, 0.2, 0.3, 0.4)],
        [(0.6, 0.7, 0.9, 0.8)],
        [(0.0, 0.0, 1.0, 1.0)],
        [(0.5, 0.5, 0.2, 0.2), (0.0, 0.0, 1.0, 0.5)],
    ],
)
def test_boxes_in_shares_of_the_image_are_an_error(boxes: list):
    problem = "no value of the boxes is above 1: they are shares of the image, not pixels (96 x 64 px)"
    with mistake(problem, "test/x.png", REMEDY):
        pixels_in_boxes(Boxes(tuple(boxes)), 64, 96, "test/x.png")


def test_boxes_inside_their_image_have_no_remark():
    boxes = Boxes(((0.0, 0.0, 96.0, 64.0), (30.0, 20.0, 30.0, 20.0), (95.5, 63.0, 1.0, 1.5)))
    assert remarks_on_boxes(boxes, 64, 96) == ()
    assert remarks_on_boxes(Boxes(((100.0, 50.0, 924.0, 974.0),), original_px=1024), 64, 96) == ()


def test_corners_that_were_taken_for_sizes():
    """x1, y1, x2, y2 = 30, 20, 80, 60; read as sizes the box ends at 110, 80."""
    boxes = Boxes(((30.0, 20.0, 80.0, 60.0), (5.0, 5.0, 10.0, 10.0)))
    assert leave_image(boxes, 64, 96) and fit_as_corners(boxes, 64, 96)
    assert remarks_on_boxes(boxes, 64, 96) == (
        "box [30, 20, 80, 60] leaves the image (96 x 64 px); read as corners x1, y1, x2, y2 it would "
        "be 50 x 40 px and lie inside. What is outside is cut off",
    )


def test_a_box_that_leaves_the_image_in_both_conventions():
    boxes = Boxes(((90.0, 10.0, 20.0, 20.0), (-9.0, 1.0, 30.5, 7.0)))
    assert leave_image(boxes, 64, 96) and not fit_as_corners(boxes, 64, 96)
    assert remarks_on_boxes(boxes, 64, 96) == (
        "box [90, 10, 20, 20], first of 2, leaves the image (96 x 64 px). What is outside is cut off",
    )


def test_boxes_in_the_pixels_of_an_original_are_compared_at_its_size():
    boxes = Boxes(((512.0, 512.0, 900.0, 900.0),), original_px=1024)
    (remark,) = remarks_on_boxes(boxes, 64, 64)
    assert (
        "box [512, 512, 900, 900] leaves the image (64 x 64 px); read as corners" in remark
        and "24.25 x 24.25 px" in remark
    )


def test_a_box_below_one_pixel_beside_another():
    boxes = Boxes(((30.0, 20.0, 30.0, 20.0), (10.2, 10.2, 0.5, 9.0)))
    assert remarks_on_boxes(boxes, 64, 96) == ("box [10.2, 10.2, 0.5, 9] covers no pixel of the image (96 x 64 px)",)


def test_boxes_drawn_on_the_stored_image():
    """The stored image is 64 px wide and 96 px high, the upright one 96 x 64 px."""
    inside, outside = Boxes(((10.0, 10.0, 20.0, 20.0),)), Boxes(((10.0, 60.0, 20.0, 30.0),))
    exif = "the image has EXIF orientation 6, and its boxes are taken to be in pixels of the upright image"
    (remark,) = remarks_on_boxes(inside, 64, 96, 6)
    assert remark.startswith(exif)
    leaves, remark = remarks_on_boxes(outside, 64, 96, 6)
    where = "it lies inside the stored image, which EXIF orientation 6 turns"
    assert leaves.startswith(f"box [10, 60, 20, 30] leaves the image (96 x 64 px); {where}")
    assert remark.startswith(exif)
