"""Overlays and outlines, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from flawmap.drawing.colour import ColourScale, colour_table
from flawmap.drawing.overlay import TRUTH_GREEN, contour, draw_contour, overlay

SCALE = ColourScale(0.0, 0.5, 1.0)


def gray(height: int, width: int, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_overlay_mixes_by_the_stated_opacity() -> None:
    image = gray(1, 5)
    mixed = overlay(image, np.array([[-1.0, 0.25, 0.5, 1.0, 9.0]], dtype=np.float32), SCALE)
    assert mixed.dtype == np.uint8
    assert (mixed[0, :2] == 100).all()
    assert np.array_equal(mixed[0, 2], np.round(0.5 * 100 + 0.5 * colour_table()[128]))
    assert np.array_equal(mixed[0, 3], np.round(0.2 * 100 + 0.8 * colour_table()[255]))
    assert np.array_equal(mixed[0, 4], mixed[0, 3])


def test_overlay_of_any_size_is_the_formula_for_all_pixels_at_once(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (37, 11, 3), dtype=np.uint8)
    anomaly_map = rng.normal(0.3, 0.4, (37, 11)).astype(np.float32)
    opacity = np.interp(SCALE.position(anomaly_map), (0.0, 0.25, 0.5, 1.0), (0.0, 0.0, 0.5, 0.8))[..., None]
    expected = np.round((1 - opacity) * image + opacity * SCALE.colours(anomaly_map)).astype(np.uint8)
    for at_once in (1, 50, 1 << 18):
        monkeypatch.setattr("flawmap.drawing.overlay._PIXELS_AT_ONCE", at_once)
        assert np.array_equal(overlay(image, anomaly_map, SCALE), expected)


def test_overlay_leaves_its_input_unmodified() -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    anomaly_map = rng.random((8, 9), dtype=np.float32)
    image_before, map_before = image.copy(), anomaly_map.copy()
    image.flags.writeable = anomaly_map.flags.writeable = False
    overlay(image, anomaly_map, SCALE)
    assert np.array_equal(image, image_before)
    assert np.array_equal(anomaly_map, map_before)


def test_overlay_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"map has shape \(3, 2\), but the image \(2, 3\)"):
        overlay(gray(2, 3), np.zeros((3, 2), dtype=np.float32), SCALE)
    with pytest.raises(ValueError, match="must be uint8"):
        overlay(np.zeros((2, 3), dtype=np.uint8), np.zeros((2, 3), dtype=np.float32), SCALE)


def test_contour_of_a_rectangle_is_its_rim() -> None:
    mask = np.zeros((7, 8), dtype=bool)
    mask[2:6, 1:6] = True
    rim = mask.copy()
    rim[3:5, 2:5] = False
    assert np.array_equal(contour(mask), rim)


def test_contour_is_open_at_the_border_of_the_image() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[:, :2] = True
    expected = np.zeros_like(mask)
    expected[:, 1] = True
    assert np.array_equal(contour(mask), expected)
    assert not contour(np.ones((3, 3), dtype=bool)).any()
    assert not contour(np.zeros((3, 3), dtype=bool)).any()


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_contour_is_every_pixel_with_a_neighbour_outside(mask: np.ndarray) -> None:
    height, width = mask.shape
    expected = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            neighbours = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            near = [mask[j, i] for j, i in neighbours if 0 <= j < height and 0 <= i < width]
            expected[y, x] = mask[y, x] and not all(near)
    assert np.array_equal(contour(mask), expected)


def test_outline_is_drawn_green_inwards_on_a_copy() -> None:
    image = gray(9, 9)
    mask = np.zeros((9, 9), dtype=bool)
    mask[1:8, 1:8] = True
    drawn = draw_contour(image, mask, width=2)
    green = (drawn == TRUTH_GREEN).all(axis=2)
    expected = mask.copy()
    expected[3:6, 3:6] = False
    assert np.array_equal(green, expected)
    assert (image == 100).all()
    with pytest.raises(ValueError, match="mask has shape"):
        draw_contour(image, mask[:5])
