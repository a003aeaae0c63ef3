"""Normal images and their attention, warped alike: geometry decoded from images that say where a pixel came from."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest, uniform

from flawmap.recipe.settings import NormalAugmentation
from flawmap.simulators.normal_augmentation import augment_normal
from images import noise

STILL = NormalAugmentation(min_crop=1.0, horizontal_flip=False, vertical_flip=False, max_rotation_deg=0.0, jitter=0.0)
EVERYTHING = NormalAugmentation(
    min_crop=0.5, horizontal_flip=True, vertical_flip=True, max_rotation_deg=30.0, jitter=0.0
)
SIDE = 200
NO_ATTENTION = np.ones((4, 4), np.float32)


def decoded(affine_fit, image: np.ndarray, settings: NormalAugmentation, draws: int) -> np.ndarray:
    """(draws, 2, 3): the maps from output pixels to image pixels, read off crops of a coordinate image to 60 px."""
    generator = np.random.default_rng(3)
    margin = 20 if settings.max_rotation_deg else 1  # what a rotation mirrors at the border is of another map
    where = np.zeros((60, 60), bool)
    where[margin:-margin, margin:-margin] = True
    outputs = (augment_normal(image, NO_ATTENTION, 60, settings, generator)[0] for _ in range(draws))
    return np.array([affine_fit(output, where) for output in outputs])


# ---- geometry


def test_a_full_crop_without_flips_and_rotation_is_the_image_itself():
    image, attention = noise(0, 48, 48), np.random.default_rng(1).random((6, 6), dtype=np.float32)
    out, warped = augment_normal(image, attention, 48, STILL, np.random.default_rng(0))
    assert np.array_equal(out, image)
    np.testing.assert_allclose(warped, cv2.resize(attention, (48, 48), interpolation=cv2.INTER_LINEAR), atol=0.02)


@pytest.mark.parametrize("min_crop", [0.8, 0.3])
def test_the_crop_is_square_inside_the_image_and_its_share_uniform(min_crop: float, coordinate_image, affine_fit):
    maps = decoded(affine_fit, coordinate_image(SIDE, SIDE), replace(STILL, min_crop=min_crop), 250)
    assert np.abs(maps[:, 0, 1]).max() < 0.02 and np.abs(maps[:, 1, 0]).max() < 0.02
    side_x, side_y = maps[:, 0, 0] * 60, maps[:, 1, 1] * 60
    assert np.abs(side_x - side_y).max() < 2
    share = (side_x * side_y) / SIDE**2
    assert share.min() > min_crop - 0.01 and share.max() < 1.01
    assert kstest(share, uniform(min_crop, 1 - min_crop).cdf).pvalue > 1e-3
    for axis, side in ((0, side_x), (1, side_y)):
        start = maps[:, axis, 2] + 0.5 - 0.5 * maps[:, axis, axis]  # of the first pixel's outer edge
        assert start.min() > -1 and (start + side).max() < SIDE + 1
        roomy = side < 0.95 * SIDE  # elsewhere rounding decides
        assert kstest((start / (SIDE - side))[roomy], uniform(0, 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
def test_images_are_flipped_half_of_the_time_and_only_where_allowed(
    horizontal: bool, vertical: bool, coordinate_image, affine_fit
):
    settings = replace(STILL, horizontal_flip=horizontal, vertical_flip=vertical, min_crop=0.8)
    maps = decoded(affine_fit, coordinate_image(SIDE, SIDE), settings, 100)
    for allowed, slope in ((horizontal, maps[:, 0, 0]), (vertical, maps[:, 1, 1])):
        flipped = int((slope < 0).sum())
        assert binomtest(flipped, 100, 0.5).pvalue > 1e-3 if allowed else flipped == 0
    if horizontal and vertical:
        both = int(((maps[:, 0, 0] < 0) & (maps[:, 1, 1] < 0)).sum())
        assert binomtest(both, 100, 0.25).pvalue > 1e-3


def test_the_rotation_is_uniform_in_its_range_and_shears_nothing(coordinate_image, affine_fit):
    maps = decoded(affine_fit, coordinate_image(SIDE, SIDE), replace(STILL, max_rotation_deg=20.0), 200)
    (a, b), (c, d) = maps[:, 0, :2].T, maps[:, 1, :2].T
    degrees = np.rad2deg(np.arctan2(c, a))
    assert np.abs(degrees).max() < 20.2
    assert kstest(degrees, uniform(-20, 40).cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.hypot(a, c), SIDE / 60, rtol=0.01)
    np.testing.assert_allclose(a, d, atol=0.03)
    np.testing.assert_allclose(b, -c, atol=0.03)


# ---- the attention goes along


def bump(height: int, width: int, row: float, column: float, spread: float) -> np.ndarray:
    """A blob at a place given as shares of height and width, spread given as a share of the width."""
    rows, columns = np.mgrid[:height, :width]
    y, x = (rows + 0.5) / height - row, (columns + 0.5) / width - column
    return np.exp(-((x * width) ** 2 + (y * height) ** 2) / (2 * (spread * width) ** 2))


def center(weights: np.ndarray) -> np.ndarray:
    weights = weights - weights.min()
    return (
        np.array([(index * weights).sum() for index in np.mgrid[: weights.shape[0], : weights.shape[1]]])
        / weights.sum()
    )


@given(st.floats(0.4, 0.6), st.floats(0.4, 0.6), st.sampled_from([(10, 10), (20, 20), (14, 14)]), st.integers(0, 10**6))
def test_a_blob_of_image_and_attention_stays_at_one_place(row: float, column: float, grid: tuple, seed: int):
    image = (255 * bump(160, 160, row, column, 0.06)).astype(np.uint8)[..., None].repeat(3, axis=2)
    attention = bump(*grid, row, column, 0.06).astype(np.float32)
    out, warped = augment_normal(image, attention, 140, EVERYTHING, np.random.default_rng(seed))
    assert np.abs(center(out[..., 0].astype(float)) - center(warped)).max() < 1.5


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"), [(200, 200, 20, 20), (120, 240, 12, 24), (160, 160, 7, 16)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_every_pixel_of_the_attention_comes_from_where_the_images_does(
    height: int, width: int, rows: int, columns: int, axis: int, coordinate_image
):
    """Attention that is a ramp of the same coordinates equals the image's own, away from the outermost cells."""
    image = coordinate_image(height, width)
    cell, extent = (width / columns, width) if axis == 0 else (height / rows, height)
    at_cells = (np.arange(columns if axis == 0 else rows) + 0.5) * cell - 0.5
    attention = np.broadcast_to(at_cells if axis == 0 else at_cells[:, None], (rows, columns)).astype(np.float32)
    compared = 0
    for seed in range(10):
        out, warped = augment_normal(image, attention, 100, EVERYTHING, np.random.default_rng(seed))
        ours = out[..., axis].astype(float)
        inside = (ours > cell) & (ours < extent - 1 - cell)
        assert np.abs(ours - warped)[inside].max() < 1.5, seed
        compared += int(inside.sum())
    assert compared > 40_000


def test_what_a_rotation_mirrors_at_the_border_is_mirrored_in_the_attention_too():
    """Blobs at the image's border appear twice after a rotation: once inside, once in the mirrored corner."""
    corners = [(0.07, 0.07), (0.07, 0.93), (0.93, 0.07), (0.93, 0.93), (0.5, 0.05), (0.05, 0.5)]
    image = sum(bump(160, 160, row, column, 0.04) for row, column in corners).clip(max=1)
    attention = sum(bump(32, 32, row, column, 0.04) for row, column in corners).clip(max=1)
    pixels = (255 * image).astype(np.uint8)[..., None].repeat(3, axis=2)
    settings = replace(STILL, max_rotation_deg=45.0)
    for seed in range(10):
        out, warped = augment_normal(pixels, attention.astype(np.float32), 160, settings, np.random.default_rng(seed))
        assert np.abs(out[..., 0] / 255 - warped).max() < 0.2, seed  # coarse cells; 0.6 if not mirrored


# ---- ranges and randomness


@given(st.integers(20, 60), st.integers(20, 60), st.integers(2, 8), st.integers(2, 8), st.integers(8, 64))
def test_sizes_and_ranges(height: int, width: int, rows: int, columns: int, size_px: int):
    attention = np.random.default_rng(height).random((rows, columns), dtype=np.float32) + 0.1
    settings = replace(EVERYTHING, jitter=0.1)
    out, warped = augment_normal(noise(0, height, width), attention, size_px, settings, np.random.default_rng(width))
    assert out.shape == (size_px, size_px, 3) and out.dtype == np.uint8
    assert warped.shape == (size_px, size_px)
    assert attention.min() - 1e-5 <= warped.min() and warped.max() <= attention.max() + 1e-5


def test_jitter_changes_colours_and_not_the_attention():
    image, attention = noise(0, 64, 64), np.random.default_rng(1).random((8, 8), dtype=np.float32)
    plain, seen = augment_normal(image, attention, 56, EVERYTHING, np.random.default_rng(4))
    coloured, seen_too = augment_normal(image, attention, 56, replace(EVERYTHING, jitter=0.2), np.random.default_rng(4))
    assert np.array_equal(seen, seen_too)
    assert 1 < np.abs(plain.astype(int) - coloured).mean() < 60


def test_depends_on_the_generator_alone_and_leaves_its_inputs_alone():
    image, attention = noise(0, 64, 64), np.random.default_rng(1).random((8, 8), dtype=np.float32)
    image.flags.writeable = attention.flags.writeable = False
    first = augment_normal(image, attention, 56, EVERYTHING, np.random.default_rng(4))
    np.random.seed(0)
    again = augment_normal(image, attention, 56, EVERYTHING, np.random.default_rng(4))
    other = augment_normal(image, attention, 56, EVERYTHING, np.random.default_rng(5))
    for mine, same, different in zip(first, again, other, strict=True):
        assert np.array_equal(mine, same) and not np.array_equal(mine, different)
