"""Foreign patch interpolation: the square, the shares, the soft labels."""

import numpy as np
import pytest
from scipy import stats

from flawmap_bench.simulators.fpi import ForeignPatchInterpolation, draw_square
from images import noise


def share_of(soft_target: np.ndarray) -> float:
    (share,) = np.unique(soft_target[soft_target > 0])
    return float(share)


def test_the_square_is_the_formula_and_the_soft_target_its_share_where_it_shows():
    for seed in range(30):
        image, second = noise(seed, 64, 64), noise(seed + 100, 64, 64)
        anomaly = ForeignPatchInterpolation()(image, np.random.default_rng(seed), None, second)
        share = share_of(anomaly.soft_target)
        expected = np.rint((1 - share) * image.astype(float) + share * second)
        difference = np.abs(anomaly.image - expected)[anomaly.footprint]
        assert difference.max() <= 1 and difference.mean() < 0.01  # the share is known to float32 only
        changed = (anomaly.image != image).any(axis=2)
        assert np.array_equal(anomaly.soft_target > 0, changed)


def test_unchanged_pixels_of_the_square_are_footprint_but_not_soft_target():
    image, second = noise(0, 64, 64), noise(1, 64, 64)
    second[:, :32] = image[:, :32]
    for seed in range(20):
        anomaly = ForeignPatchInterpolation()(image, np.random.default_rng(seed), None, second)
        assert not anomaly.soft_target[:, :32].any()
    both = [ForeignPatchInterpolation()(image, np.random.default_rng(seed), None, second) for seed in range(20)]
    assert any(anomaly.footprint[:, :32].any() and anomaly.label for anomaly in both)


def test_shares_are_uniform():
    image, second = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    shares = np.array(
        [
            share_of(ForeignPatchInterpolation()(image, np.random.default_rng(seed), None, second).soft_target)
            for seed in range(500)
        ]
    )
    assert stats.kstest(shares, stats.uniform(0.05, 0.9).cdf).pvalue > 0.01


def test_squares_have_the_published_sides():
    generator = np.random.default_rng(0)
    squares = [draw_square(256, 256, generator, 0.2) for _ in range(4000)]  # so central that none is cut
    sides = np.array([(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in squares])
    assert (sides[:, 0] == sides[:, 1]).all() and (sides % 2 == 0).all()
    halves = sides[:, 0] // 2
    assert (halves.min(), halves.max()) == (13, 50)
    assert stats.chisquare(np.bincount(halves)[13:]).pvalue > 0.01


@pytest.mark.parametrize("core", [0.8, 0.5])
def test_centers_are_uniform_in_the_core(core: float):
    generator = np.random.default_rng(1)
    squares = [draw_square(1000, 40_000, generator, core) for _ in range(1000)]
    columns = np.array([(square.start + square.stop) / 2 for _, square in squares])  # at most 200 px from the center
    assert stats.kstest(columns / 40_000, stats.uniform((1 - core) / 2, core).cdf).pvalue > 0.01
    cut = np.mean([rows.start == 0 or rows.stop == 1000 for rows, _ in squares])
    # half a side is U(0.05, 0.2): a center in [0.1, 0.2] is nearer to the border with probability 1/3 on average
    assert cut == pytest.approx((0.2 / 0.8) * (1 / 3) if core == 0.8 else 0, abs=0.03)


def test_squares_are_cut_to_the_image():
    generator = np.random.default_rng(2)
    for _ in range(500):
        rows, columns = draw_square(40, 90, generator, 1.0)
        assert 0 <= rows.start < rows.stop <= 40 and 0 <= columns.start < columns.stop <= 90
        assert max(rows.stop - rows.start, columns.stop - columns.start) <= 2 * 8


def test_both_images_of_a_pair_get_the_same_square_from_the_same_generator():
    a, b = noise(0, 64, 64), noise(1, 64, 64)
    one = ForeignPatchInterpolation()(a, np.random.default_rng(5), None, b)
    other = ForeignPatchInterpolation()(b, np.random.default_rng(5), None, a)
    assert np.array_equal(one.footprint, other.footprint)
    inside = one.footprint
    total = one.image[inside].astype(int) + other.image[inside]
    assert np.abs(total - (a[inside].astype(int) + b[inside])).max() <= 1  # what one gives, the other takes


def test_the_same_image_twice_has_no_anomaly():
    image = noise(3, 64, 64)
    anomaly = ForeignPatchInterpolation()(image, np.random.default_rng(0), None, image)
    assert anomaly.label == 0 and not anomaly.footprint.any() and np.array_equal(anomaly.image, image)
