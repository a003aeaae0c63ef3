"""Colour jitter: what each factor does and how it is distributed, grays, identity, determinism."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.stats import kstest, uniform

from flawmap.simulators.color_jitter import color_jitter
from images import noise

NAMES = ("brightness", "contrast", "saturation", "hue")


def only(name: str, strength: float) -> list[float]:
    return [strength if name == other else 0.0 for other in NAMES]


def plain(*colour: int) -> np.ndarray:
    return np.full((2, 2, 3), colour, np.uint8)


def drawn_factors(name: str, strength: float) -> np.ndarray:
    """What 300 draws did to a colour for which the factor can be read off."""
    halves = np.array([80, 160], np.uint8).repeat(6).reshape(2, 2, 3)  # two grays around 120
    read = {
        "brightness": (plain(100, 100, 100), lambda out: out.mean() / 100),
        "contrast": (halves, lambda out: (out[1].mean() - out[0].mean()) / 80),
        "saturation": (plain(180, 80, 80), lambda out: (out[0, 0, 0] / 1.0 - out[0, 0, 1]) / 100),
        "hue": (plain(200, 100, 100), lambda out: (colorsys.rgb_to_hsv(*out[0, 0].tolist())[0] + 0.5) % 1 - 0.5),
    }
    image, measure = read[name]
    generator = np.random.default_rng(1)
    return np.array([measure(color_jitter(image, generator, *only(name, strength))) for _ in range(300)])


@pytest.mark.parametrize("strength", [0.1, 0.4])
@pytest.mark.parametrize("name", NAMES)
def test_factors_are_uniform_around_no_change(name: str, strength: float):
    low, middle = (-strength, 0.0) if name == "hue" else (1 - strength, 1.0)
    factors = drawn_factors(name, strength)
    rounding = 0.012  # of an 8-bit value
    assert factors.min() > low - rounding and factors.max() < middle + strength + rounding
    assert kstest(factors, uniform(low, 2 * strength).cdf).statistic < 0.12  # rounding makes steps


def test_factors_are_never_negative():
    assert drawn_factors("brightness", 1.5).min() == 0
    assert drawn_factors("saturation", 1.5).min() > -0.012


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
def test_equals_pillows_enhancement_by_the_same_factor(name: str, enhancer: type):
    for seed in range(10):
        image = noise(seed, 12, 10, 60, 150)
        factors = np.random.default_rng(seed).uniform(0.6, 1.4, size=3)  # brightness, contrast, saturation
        ours = color_jitter(image, np.random.default_rng(seed), *only(name, 0.4))
        pillows = np.asarray(enhancer(Image.fromarray(image)).enhance(factors[NAMES.index(name)]))
        assert np.abs(ours.astype(int) - pillows).max() <= 2, seed


def test_the_order_of_the_steps_is_random():
    """Brightness clips white, contrast then spreads what is left: the two orders give different images."""
    image = np.array([100, 240], np.uint8).repeat(6).reshape(2, 2, 3)
    orders = set()
    for seed in range(40):
        factors = np.random.default_rng(seed).uniform(0.5, 1.5, size=2)
        if factors[0] < 1.1 or factors[1] > 0.9:
            continue  # nothing is clipped, or the orders are hard to tell apart
        out = color_jitter(image, np.random.default_rng(seed), 0.5, 0.5, 0.0, 0.0)
        brightened = np.minimum(image * factors[0], 255)
        contrasted = image * factors[1] + (1 - factors[1]) * image.mean()
        first_bright = brightened * factors[1] + (1 - factors[1]) * brightened.mean()
        first_contrast = np.minimum(contrasted * factors[0], 255)
        error_bright, error_contrast = (np.abs(out - by_hand).max() for by_hand in (first_bright, first_contrast))
        assert min(error_bright, error_contrast) < 3
        orders.add(error_bright < error_contrast)
    assert orders == {True, False}


@given(st.integers(0, 2**32))
def test_no_strength_is_the_identity(seed: int):
    image = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    assert np.array_equal(color_jitter(image, np.random.default_rng(seed), 0.0, 0.0, 0.0, 0.0), image)


@given(st.integers(0, 2**32))
def test_gray_stays_gray(seed: int):
    gray = np.random.default_rng(seed).integers(0, 256, (7, 9, 1), dtype=np.uint8).repeat(3, axis=2)
    out = color_jitter(gray, np.random.default_rng(seed), 0.4, 0.4, 0.4, 0.5)
    assert (out[..., 0] == out[..., 1]).all() and (out[..., 1] == out[..., 2]).all()


def test_gray_and_coloured_images_consume_the_same_random_numbers():
    generators = [np.random.default_rng(0), np.random.default_rng(0)]
    for generator, image in zip(generators, (plain(9, 9, 9), plain(1, 2, 3)), strict=True):
        color_jitter(image, generator, 0.4, 0.4, 0.4, 0.1)
    assert generators[0].random() == generators[1].random()


def test_depends_on_the_generator_alone_and_leaves_the_image_alone():
    image = noise(0, 12, 10, 60, 150)
    before = image.copy()
    image.flags.writeable = False
    first = color_jitter(image, np.random.default_rng(5), 0.4, 0.4, 0.2, 0.1)
    np.random.seed(1)
    assert np.array_equal(color_jitter(image, np.random.default_rng(5), 0.4, 0.4, 0.2, 0.1), first)
    assert not np.array_equal(color_jitter(image, np.random.default_rng(6), 0.4, 0.4, 0.2, 0.1), first)
    assert np.array_equal(image, before)
    assert first.flags.writeable and first.flags.c_contiguous


def test_views_of_arrays_are_read_as_they_look():
    image = noise(0, 12, 10, 60, 150)
    mirrored = image[:, ::-1]
    ours = color_jitter(mirrored, np.random.default_rng(2), 0.4, 0.4, 0.2, 0.1)
    assert np.array_equal(ours, color_jitter(mirrored.copy(), np.random.default_rng(2), 0.4, 0.4, 0.2, 0.1))
