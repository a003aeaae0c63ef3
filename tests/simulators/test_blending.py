"""Pasting and Poisson blending: identities, alignment, what stays untouched, and what is refused."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.simulators import blending
from flawmap.simulators.blending import FRAME_PX, paste, poisson_blend
from images import noise

SIDE = 64


def smooth_noise(seed: int, sigma_px: float) -> np.ndarray:
    image = noise(seed, SIDE, SIDE)
    return cv2.GaussianBlur(image, (0, 0), sigma_px) if sigma_px else image


def flat(level: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def rectangle(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def turned_wedge(row: float, column: float, degrees: float, length: float = 26.0, width: float = 16.0) -> np.ndarray:
    """A right-angled triangle with legs of these px, turned about its middle: no symmetry at all."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    x, y = length / 2, width / 2
    corners = np.array([(-x, -y), (x, -y), (-x, y)]) @ np.array([[cos, sin], [-sin, cos]]) + np.array([column, row])
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 1)
    return mask.astype(bool)


wedges = st.builds(turned_wedge, st.floats(4, 60), st.floats(4, 60), st.floats(0, 360))


# ---- hard


@given(wedges)
def test_paste_takes_the_patch_inside_and_the_image_outside(footprint: np.ndarray):
    image, patched = noise(0, SIDE, SIDE), noise(1, SIDE, SIDE)
    out = paste(image, patched, footprint)
    assert np.array_equal(out[footprint], patched[footprint]) and np.array_equal(out[~footprint], image[~footprint])


# ---- Poisson


@pytest.mark.parametrize("smooth", [0.0, 3.0])
@given(footprint=wedges)
def test_blending_an_image_into_itself_changes_nothing(smooth: float, footprint: np.ndarray):
    image = smooth_noise(0, smooth)
    blended = poisson_blend(image, image, footprint)
    if blended is not None:
        assert np.abs(blended[0].astype(int) - image).max() <= 1


@given(wedges)
def test_only_pixels_of_the_returned_footprint_change_and_it_is_part_of_what_was_asked_for(footprint: np.ndarray):
    image, patched = smooth_noise(0, 1.0), smooth_noise(1, 1.0)
    before = image.copy(), patched.copy(), footprint.copy()
    blended = poisson_blend(image, patched, footprint)
    assert all(np.array_equal(old, new) for old, new in zip(before, (image, patched, footprint), strict=True))
    if blended is not None:
        out, returned = blended
        assert np.array_equal(out[~returned], image[~returned])
        assert not (returned & ~footprint).any() and returned.sum() >= blending.MIN_POISSON_AREA_PX
        assert not returned[:FRAME_PX].any() and not returned[-FRAME_PX:].any()
        assert not returned[:, :FRAME_PX].any() and not returned[:, -FRAME_PX:].any()


def fading_patch(footprint: np.ndarray, level: int) -> np.ndarray:
    """Texture, other in every place, that has faded to ``level`` six pixels before the footprint's border."""
    depth = cv2.distanceTransform(np.pad(footprint, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    fade = np.clip((depth - 6) / 3, 0, 1)[..., None]
    texture = smooth_noise(9, 1.5).astype(float)
    return np.round(level + 4 * fade * (texture - texture.mean())).clip(0, 255).astype(np.uint8)


def assert_arrived_in_place(patched: np.ndarray, footprint: np.ndarray) -> None:
    """The closed form: a patch that meets the image at its border is its own Poisson blend.

    In the mean, because OpenCV mixes by |gx - gy|: single pixels whose gradient is diagonal lose to the image's.
    """
    blended = poisson_blend(flat(120), patched, footprint)
    assert blended is not None
    contrast = np.abs(patched.astype(int) - 120).mean()
    error = np.abs(blended[0].astype(int) - patched).mean()
    assert contrast > 0.05 and error < 0.25 * contrast
    for shift in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (2, 0), (0, 2)]:
        assert np.abs(blended[0].astype(int) - np.roll(patched, shift, axis=(0, 1))).mean() > 2 * error, shift


@pytest.mark.parametrize(
    ("row", "column", "degrees"),
    [(32, 32, 0), (32, 32, 31), (31, 33, 117), (20, 21, 20), (45, 20, 75), (20, 44, 200), (45, 44, 290), (18, 32, 45)],
)
def test_a_patch_that_fades_into_the_image_arrives_unchanged_and_in_place(row: int, column: int, degrees: int):
    footprint = turned_wedge(row, column, degrees, 46.0, 36.0)
    assert_arrived_in_place(fading_patch(footprint, 120), footprint)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(20, 24), st.integers(20, 24))
def test_rectangles_of_odd_and_even_sides_are_in_place_too(top: int, left: int, height: int, width: int):
    footprint = rectangle(top, left, height, width)
    assert_arrived_in_place(fading_patch(footprint, 120), footprint)


def test_the_level_of_the_patch_does_not_matter_only_its_gradients_do():
    footprint = turned_wedge(32, 32, 31, 46.0, 36.0)
    outs = []
    for offset in (0, 40):
        patched = 90 + fading_patch(footprint, 120) // 4  # 90 to 153, 120 at the border
        patched = np.where(footprint[..., None], patched + np.uint8(offset), patched)
        blended = poisson_blend(flat(120), patched, footprint)
        assert blended is not None
        outs.append(blended[0].astype(int))
    assert np.abs(outs[0] - 120).max() > 10
    assert np.abs(outs[0] - outs[1]).max() <= 4


def test_where_the_image_has_the_stronger_gradient_it_shows_through():
    """Mixed gradients: a flat patch cannot wipe out a texture, so that it changes nothing."""
    image = smooth_noise(3, 1.0)
    blended = poisson_blend(image, flat(20), rectangle(20, 20, 20, 24))
    assert blended is not None
    assert np.abs(blended[0].astype(int) - image).max() <= 2


# ---- what is refused, and what is safe


@pytest.mark.parametrize(
    ("height", "width", "accepted"),
    [(7, 12, True), (7, 11, False), (6, 40, False), (40, 6, False), (12, 7, True), (3, 3, False), (1, 1, False)],
)
def test_footprints_below_50_px_or_5_px_wide_after_erosion_are_refused(height: int, width: int, accepted: bool):
    blended = poisson_blend(smooth_noise(0, 1.0), smooth_noise(1, 1.0), rectangle(10, 10, height, width))
    assert (blended is not None) == accepted
    if blended is not None:
        assert np.array_equal(blended[1], rectangle(11, 11, height - 2, width - 2))


def test_an_empty_footprint_is_refused():
    assert poisson_blend(noise(0, SIDE, SIDE), noise(1, SIDE, SIDE), rectangle(0, 0, 0, 0)) is None


@pytest.mark.parametrize(
    ("footprint", "expected"),
    [
        (rectangle(0, 0, SIDE, SIDE), rectangle(2, 2, SIDE - 4, SIDE - 4)),
        (rectangle(0, 0, 15, 20), rectangle(2, 2, 12, 17)),
        (rectangle(40, 50, 24, 14), rectangle(41, 51, 21, 11)),
        (rectangle(0, 30, SIDE, 10), rectangle(2, 31, SIDE - 4, 8)),
    ],
)
def test_footprints_that_touch_the_frame_are_kept_off_it(footprint: np.ndarray, expected: np.ndarray):
    image = smooth_noise(0, 1.0)
    blended = poisson_blend(image, smooth_noise(1, 1.0), footprint)
    assert blended is not None
    out, returned = blended
    assert np.array_equal(returned, expected)
    assert np.array_equal(out[~expected], image[~expected])
    assert (out != image).any()


def test_what_opencv_refuses_is_refused(monkeypatch):
    def refuse(*_):
        raise cv2.error("(-215:Assertion failed)")

    monkeypatch.setattr(cv2, "seamlessClone", refuse)
    assert poisson_blend(noise(0, SIDE, SIDE), noise(1, SIDE, SIDE), rectangle(10, 10, 20, 20)) is None
