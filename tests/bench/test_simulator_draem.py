"""DRAEM's simulator: Perlin noise written out by hand, masks, textures and what is done to them."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from flawmap_bench.simulators import draem
from flawmap_bench.simulators.draem import CHANGES, Draem, change_texture, made_texture, perlin_mask, perlin_noise
from images import noise


def same_texture(monkeypatch: pytest.MonkeyPatch, colour: tuple[int, int, int]) -> None:
    """Every texture is of one colour and stays as it is."""
    monkeypatch.setattr(draem, "made_texture", lambda h, w, _: np.full((h, w, 3), colour, np.uint8))
    monkeypatch.setattr(draem, "change_texture", lambda texture, generator: texture)


# ---- noise and masks


def noise_at(row: float, column: float, angles: np.ndarray) -> float:
    """Perlin noise at one place, in cells."""
    top, left = int(row), int(column)
    value = 0.0
    for i in (top, top + 1):
        for j in (left, left + 1):
            way = row - i, column - j
            product = np.sin(angles[i, j]) * way[0] + np.cos(angles[i, j]) * way[1]
            weights = [1 - (6 * abs(w) ** 5 - 15 * abs(w) ** 4 + 10 * abs(w) ** 3) for w in way]
            value += weights[0] * weights[1] * product
    return np.sqrt(2) * value


@pytest.mark.parametrize(("height", "width", "cells"), [(16, 16, (4, 2)), (13, 21, (3, 5)), (7, 9, (8, 1))])
def test_noise_equals_its_definition(height: int, width: int, cells: tuple[int, int]):
    ours = perlin_noise(height, width, cells, np.random.default_rng(4))
    angles = np.random.default_rng(4).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    expected = [
        [noise_at((i + 0.5) * cells[0] / height, (j + 0.5) * cells[1] / width, angles) for j in range(width)]
        for i in range(height)
    ]
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_noise_is_centred_bounded_and_zero_at_the_corners_of_its_cells():
    drawn = np.stack([perlin_noise(45, 45, (3, 3), np.random.default_rng(seed)) for seed in range(300)])
    assert np.abs(drawn).max() <= 1 and np.abs(drawn.mean()) < 0.01
    spread = drawn.std(axis=0)
    near_corner = np.ix_([14, 15, 29, 30], [14, 15, 29, 30])  # half a pixel of 15 from a corner
    assert spread[near_corner].max() < 0.1 < 0.25 < np.median(spread)


def test_masks_are_neither_empty_nor_everything():
    shares = np.array([perlin_mask(64, 96, np.random.default_rng(seed)).mean() for seed in range(300)])
    assert shares.min() > 0 and shares.max() < 0.5
    assert 0.02 < np.median(shares) < 0.08


def test_resolutions_are_powers_of_two_with_equal_frequency(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[int, int]] = []

    def record(height: int, width: int, cells: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
        seen.append(cells)
        return np.ones((height, width))  # never empty: one draw for each mask

    monkeypatch.setattr(draem, "perlin_noise", record)
    generator = np.random.default_rng(0)
    for _ in range(1200):
        perlin_mask(8, 8, generator)
    for axis in (0, 1):
        values, counts = np.unique([cells[axis] for cells in seen], return_counts=True)
        assert values.tolist() == [1, 2, 4, 8, 16, 32]
        assert stats.chisquare(counts).pvalue > 0.01
    assert stats.chisquare(np.unique(np.array(seen), axis=0, return_counts=True)[1]).pvalue > 0.01


def test_masks_are_rotated_up_to_a_right_angle(monkeypatch: pytest.MonkeyPatch):
    """Half a plane instead of noise: its edge tells the angle."""
    half = np.zeros((101, 101))
    half[:, 51:] = 1.0
    monkeypatch.setattr(draem, "perlin_noise", lambda *_: half)
    angles = []
    for seed in range(300):
        mask = perlin_mask(101, 101, np.random.default_rng(seed))
        rows, columns = np.nonzero(mask)
        near = np.hypot(rows - 50, columns - 50) < 45
        angles.append(np.rad2deg(np.arctan2(-(rows[near] - 50).mean(), (columns[near] - 50).mean())))
    assert -91 < min(angles) < -85 and 85 < max(angles) < 91
    assert stats.kstest(angles, stats.uniform(-90, 180).cdf).pvalue > 0.01


def test_rotation_brings_no_mask_in_from_outside(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(draem, "perlin_noise", lambda *_: np.ones((40, 40)))
    generator = np.random.default_rng(0)
    shares = [perlin_mask(40, 40, generator).mean() for _ in range(50)]
    # two squares of one size, one turned by t in (0, 90) degrees, share 2 / (1 + cos t + sin t) of their area
    assert min(shares) == pytest.approx(2 / (1 + np.sqrt(2)), abs=0.03) and max(shares) > 0.95


# ---- the blend


def test_the_blend_is_between_texture_and_image(monkeypatch: pytest.MonkeyPatch):
    same_texture(monkeypatch, (255, 255, 255))
    simulator, black = Draem(), np.zeros((32, 32, 3), np.uint8)
    betas = []
    for seed in range(300):
        anomaly = simulator(black, np.random.default_rng(seed))
        values = np.unique(anomaly.image[anomaly.footprint])
        assert anomaly.label == 1 and len(values) == 1
        assert np.array_equal(anomaly.soft_target, anomaly.footprint)
        betas.append(1 - values[0] / 255)  # (1 - beta) 255 + beta 0
    assert 0 <= min(betas) < 0.02 and 0.78 < max(betas) <= 0.802
    assert stats.kstest(betas, stats.uniform(0, 0.8).cdf).pvalue > 0.01


def test_on_a_gray_image_a_coloured_texture_is_gray(monkeypatch: pytest.MonkeyPatch):
    same_texture(monkeypatch, (250, 30, 0))
    image = np.repeat(noise(0, 48, 48)[..., :1], 3, axis=2)
    for seed in range(20):
        changed = Draem()(image, np.random.default_rng(seed)).image
        assert (changed == changed[..., :1]).all() and not np.array_equal(changed, image)


def test_the_probability_is_that_of_an_anomaly():
    image = noise(0, 32, 32)
    assert all(Draem()(image, np.random.default_rng(seed)).label for seed in range(100))
    generator = np.random.default_rng(1)
    labels = [Draem(probability=0.5)(image, generator).label for _ in range(300)]
    assert stats.binomtest(sum(labels), 300).pvalue > 0.01
    nothing = Draem(probability=0.0)(image, np.random.default_rng(0))
    assert nothing.label == 0 and np.array_equal(nothing.image, image) and not nothing.footprint.any()


# ---- textures


def test_made_textures_have_contrast_and_colour():
    for seed in range(20):
        texture = made_texture(40, 60, np.random.default_rng(seed)).astype(float)
        assert texture.shape == (40, 60, 3) and texture.std() > 30
        assert np.ptp(texture, axis=2).mean() > 15


def test_three_different_changes_are_made_to_each_texture(monkeypatch: pytest.MonkeyPatch):
    done: list[int] = []

    def recorder(number: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
        return lambda texture, generator: (done.append(number), texture)[1]

    monkeypatch.setattr(draem, "CHANGES", {name: recorder(number) for number, name in enumerate(CHANGES)})
    generator, texture = np.random.default_rng(0), noise(0, 8, 8)
    for _ in range(800):
        change_texture(texture, generator)
    assert len(done) == 2400 and len(CHANGES) == 10
    assert all(len(set(done[start : start + 3])) == 3 for start in range(0, 2400, 3))
    assert stats.chisquare(np.bincount(done)).pvalue > 0.01
    assert stats.chisquare(np.bincount(done[::3])).pvalue > 0.01  # and any of them first


def changed(name: str, texture: np.ndarray, *key: int) -> np.ndarray:
    return CHANGES[name](texture, np.random.default_rng(key))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_shape_and_type_and_changes_something(name: str):
    change, texture = CHANGES[name], noise(1, 30, 41)
    results = [change(texture, np.random.default_rng(seed)) for seed in range(20)]
    assert all(result.shape == texture.shape and result.dtype == np.uint8 for result in results)
    if name not in ("autocontrast", "equalise"):  # noise has all values already
        assert sum(not np.array_equal(result, texture) for result in results) >= 15
    flat = np.full((30, 41, 3), 100, np.uint8) + np.arange(3, dtype=np.uint8)
    assert all(change(flat, np.random.default_rng(seed)).shape == flat.shape for seed in range(5))


def test_gamma_is_between_a_half_and_two_for_each_channel():
    texture = np.full((4, 4, 3), 64, np.uint8)
    results = np.array([changed("gamma", texture, 1, seed)[0, 0] for seed in range(300)])
    exponents = np.log(results / 255) / np.log(64 / 255)
    assert 0.49 < exponents.min() < 0.53 and 1.95 < exponents.max() < 2.02
    assert stats.kstest(exponents.ravel(), stats.uniform(0.5, 1.5).cdf).pvalue > 0.01
    assert np.abs(np.corrcoef(exponents.T)[0, 1]) < 0.2


def test_brightness_is_a_factor_and_an_offset():
    texture = np.zeros((1, 2, 3), np.uint8)
    texture[0, 0], texture[0, 1] = 100, 150
    results = np.array([changed("brightness", texture, seed)[0, :, 0].astype(float) for seed in range(300)])
    factors = (results[:, 1] - results[:, 0]) / 50
    offsets = results[:, 0] - 100 * factors
    assert factors.min() >= 0.78 and factors.max() <= 1.22 and factors.std() == pytest.approx(0.4 / 12**0.5, abs=0.02)
    assert np.abs(offsets).max() <= 33 and offsets.std() == pytest.approx(60 / 12**0.5, abs=2)


def test_hue_wraps_around_and_saturation_is_clipped():
    red = np.broadcast_to(np.array([200, 20, 20], np.uint8), (3, 3, 3))
    results = [changed("hue_and_saturation", red, seed)[0, 0] for seed in range(100)]
    assert all(abs(int(result.max()) - 200) <= 1 for result in results)  # the value of HSV stays
    assert any(int(r[1]) - int(r[2]) > 60 for r in results) and any(int(r[2]) - int(r[1]) > 60 for r in results)
    assert all(r.argmax() == 0 or abs(int(r[0]) - int(r.max())) < 60 for r in results)  # 50 / 256 of a turn at most


def test_invert_solarise_and_posterise_do_what_their_names_say():
    texture = noise(2, 48, 48)
    assert np.array_equal(changed("invert", texture, 0), 255 - texture)
    thresholds = []
    for seed in range(100):
        solarised = changed("solarise", texture, seed)
        turned = solarised != texture
        assert np.array_equal(solarised[turned], 255 - texture[turned])
        thresholds.append(int(texture[turned].min()))
    assert 32 <= min(thresholds) < 40 and 120 < max(thresholds) <= 128
    levels = {len(np.unique(changed("posterise", texture, seed))) for seed in range(60)}
    assert levels == {2**bits for bits in range(1, 9)}


def test_autocontrast_and_equalise_spread_the_values():
    narrow = (100 + noise(3, 48, 48) // 8).astype(np.uint8)
    for name in ("autocontrast", "equalise"):
        spread = changed(name, narrow, 0)
        assert spread.min() == 0 and spread.max() == 255


def test_rotation_brings_no_black_corners_in():
    for seed in range(20):
        assert changed("rotation", np.full((30, 40, 3), 200, np.uint8), seed).min() == 200


def test_sharpness_blurs_or_sharpens():
    texture = (noise(4, 48, 48) // 3 + 80).astype(np.uint8)
    spreads = np.array([changed("sharpness", texture, seed).std() for seed in range(40)]) / texture.std()
    assert spreads.min() < 0.8 and spreads.max() > 1.2
