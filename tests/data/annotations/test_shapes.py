"""Which pixels a shape covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.data.annotations.shapes import Bitmap, Box, Polygons, RunLengths, Shape


def drawn(shape: Shape, height: int = 12, width: int = 16) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    shape.draw(mask)
    return mask


def block(rows: slice, columns: slice, height: int = 12, width: int = 16) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygons:
    return Polygons((((left, top), (right, top), (right, bottom), (left, bottom)),))


@pytest.mark.parametrize(
    ("corners", "rows", "columns"),
    [
        ((2.0, 3.0, 5.0, 7.0), slice(3, 7), slice(2, 5)),
        ((2.4, 3.4, 5.4, 7.4), slice(3, 7), slice(2, 5)),
        ((2.6, 2.6, 4.6, 6.6), slice(3, 7), slice(3, 5)),
        ((-5.0, -5.0, 3.0, 2.0), slice(0, 2), slice(0, 3)),
        ((12.0, 9.0, 40.0, 40.0), slice(9, 12), slice(12, 16)),
    ],
)
def test_a_pixel_belongs_to_a_box_and_to_its_outline_if_its_centre_does(corners, rows, columns):
    left, top, right, bottom = corners
    expected = block(rows, columns)
    np.testing.assert_array_equal(drawn(Box((left, top, right - left, bottom - top))), expected)
    np.testing.assert_array_equal(drawn(rectangle(*corners)), expected)
    np.testing.assert_allclose(rectangle(*corners).bounds(), (left, top, right - left, bottom - top))


corner = st.tuples(st.floats(-4.0, 20.0), st.floats(-4.0, 16.0))


@given(st.lists(corner, min_size=3, max_size=8))
def test_a_polygon_holds_the_pixels_that_counting_crossings_one_by_one_finds(corners):
    def is_inside(x: float, y: float) -> bool:
        edges = zip(corners, corners[1:] + corners[:1], strict=True)
        crossed = [(x1 + (y - y1) * (x2 - x1) / (y2 - y1)) for (x1, y1), (x2, y2) in edges if (y1 <= y) != (y2 <= y)]
        return sum(edge <= x for edge in crossed) % 2 == 1

    expected = np.array([[is_inside(column + 0.5, row + 0.5) for column in range(16)] for row in range(12)])
    mask = drawn(Polygons((tuple(corners),)))
    if expected.any():
        assert (mask != expected).sum() <= 1  # an edge through a centre may be rounded to either side


def test_an_outline_that_crosses_itself_leaves_what_is_inside_twice_open():
    star = (
        (
            (0.0, 0.0),
            (10.0, 0.0),
            (10.0, 10.0),
            (0.0, 10.0),
            (0.0, 0.0),
            (3.0, 3.0),
            (7.0, 3.0),
            (7.0, 7.0),
            (3.0, 7.0),
            (3.0, 3.0),
        ),
    )
    mask = drawn(Polygons(star))
    assert mask[1, 1] and not mask[5, 5] and mask.sum() == 100 - 16


def test_several_outlines_are_one_shape():
    both = Polygons((*rectangle(0.0, 0.0, 4.0, 4.0).outlines, *rectangle(2.0, 2.0, 6.0, 6.0).outlines))
    assert drawn(both).sum() == 16 + 16 - 4
    assert both.bounds() == (0.0, 0.0, 6.0, 6.0)


def test_a_crack_thinner_than_a_pixel_is_not_lost():
    crack = Polygons((((2.6, 1.6), (9.4, 1.6), (9.4, 1.7), (2.6, 1.7)),))
    np.testing.assert_array_equal(drawn(crack), block(slice(1, 2), slice(2, 10)))
    diagonal = drawn(Polygons((((0.1, 0.1), (5.9, 5.9), (5.95, 5.9)),)))
    assert diagonal.diagonal()[:6].all() and diagonal.sum() <= 12


def test_run_lengths_go_down_the_columns():
    runs = RunLengths((9, 2, 2, 2, 2, 2, 5), height=4, width=6)
    np.testing.assert_array_equal(runs.pixels(), block(slice(1, 3), slice(2, 5), 4, 6))
    np.testing.assert_array_equal(drawn(runs, 4, 6), runs.pixels())
    assert runs.bounds() == (2.0, 1.0, 3.0, 2.0)
    assert RunLengths((6,), 3, 2).bounds() == (0.0, 0.0, 0.0, 0.0)
    assert RunLengths((0, 6), 3, 2).pixels().all()


@pytest.mark.parametrize(("left", "top"), [(0, 0), (5, 2), (-2, -1), (14, 10), (-3, 11), (20, 0), (0, -9)])
def test_a_bitmap_lies_where_its_corner_is(left, top):
    pixels = np.arange(12).reshape(3, 4) % 2 == 0
    expected = np.zeros((12, 16), bool)
    for row, column in np.argwhere(pixels):
        if 0 <= row + top < 12 and 0 <= column + left < 16:
            expected[row + top, column + left] = True
    np.testing.assert_array_equal(drawn(Bitmap(pixels, left, top)), expected)
    assert Bitmap(pixels, left, top).bounds() == (left, top, 3, 3)
