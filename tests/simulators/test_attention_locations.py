"""Where anomalies are cut and pasted: proportional to the attention, resized to the image and renormalised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from flawmap.simulators.attention_cutpaste import LocationDistribution


def counts(attention: np.ndarray, height: int, width: int, cells: tuple[int, int], draws: int = 8000) -> np.ndarray:
    """How often pixels of each cell of an evenly cut image are drawn."""
    distribution, generator = (
        LocationDistribution(attention.astype(np.float32), height, width),
        np.random.default_rng(0),
    )
    drawn = np.zeros((height, width), int)
    for _ in range(draws):
        drawn[distribution.sample(generator)] += 1
    return drawn.reshape(cells[0], height // cells[0], cells[1], width // cells[1]).sum(axis=(1, 3))


def tent_weights(cells: int, pixels: int) -> np.ndarray:
    """(pixels, cells): linear interpolation between cell centres, written out; constant beyond the outermost."""
    weights = np.zeros((pixels, cells))
    for pixel in range(pixels):
        place = min(max((pixel + 0.5) * cells / pixels - 0.5, 0), cells - 1)
        left = min(int(place), cells - 2)
        weights[pixel, left], weights[pixel, left + 1] = left + 1 - place, place - left
    return weights


def test_even_attention_draws_every_place_equally_often():
    assert chisquare(counts(np.full((14, 14), 1 / 197), 64, 64, (8, 8)).ravel()).pvalue > 1e-3


def test_places_are_as_likely_as_they_are_attended():
    attention = np.array([[1.0, 2.0], [5.0, 12.0]])
    at_image_size = attention.repeat(16, axis=0).repeat(24, axis=1)
    observed = counts(at_image_size, 32, 48, (2, 2))
    assert chisquare(observed.ravel(), 8000 * attention.ravel() / 20).pvalue > 1e-3


@pytest.mark.parametrize(
    "attention", [np.array([[1.0, 2.0], [5.0, 12.0]]), np.array([[0.0, 1.0, 0.1], [3.0, 0.0, 0.0]])]
)
def test_coarse_attention_is_interpolated_linearly(attention: np.ndarray):
    rows, columns = attention.shape
    probability = tent_weights(rows, 48) @ attention @ tent_weights(columns, 96).T
    expected = probability.reshape(8, 6, 8, 12).sum(axis=(1, 3)) / probability.sum()
    observed = counts(attention, 48, 96, (8, 8))
    possible = expected > 0
    assert observed[~possible].sum() == 0
    assert chisquare(observed[possible], 8000 * expected[possible]).pvalue > 1e-3


def test_one_hot_attention_draws_its_cell_alone():
    attention = np.zeros((64, 64))
    attention[16:32, 40:48] = 1
    observed = counts(attention, 64, 64, (64, 64))
    assert observed[16:32, 40:48].sum() == 8000
    assert chisquare(observed[16:32, 40:48].ravel()).pvalue > 1e-3


def test_one_hot_attention_on_a_coarse_grid_reaches_half_way_into_the_neighbours():
    attention = np.zeros((8, 8))
    attention[3, 4] = 1
    observed = counts(attention, 64, 64, (64, 64))
    rows, columns = observed.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 35, 28, 43)
    share = observed[24:32, 32:40].sum() / 8000
    assert share == pytest.approx(0.75**2, abs=0.02)  # of a tent, three quarters lie within its cell


@pytest.mark.parametrize("attention", [np.zeros((4, 4)), np.full((4, 4), -1.0)])
def test_attention_that_is_nowhere_positive_draws_uniformly(attention: np.ndarray):
    assert chisquare(counts(attention, 32, 32, (4, 4)).ravel()).pvalue > 1e-3


def test_negative_attention_counts_as_none():
    observed = counts(np.where(np.eye(32) > 0, 1.0, -5.0), 32, 32, (32, 32))
    assert (observed.nonzero()[0] == observed.nonzero()[1]).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_places_are_pixels_of_the_image(height: int, width: int, rows: int, columns: int, seed: int):
    generator = np.random.default_rng(seed)
    distribution = LocationDistribution(generator.random((rows, columns), dtype=np.float32) ** 8, height, width)
    drawn = np.array([distribution.sample(generator) for _ in range(20)])
    assert drawn.min() >= 0 and drawn[:, 0].max() < height and drawn[:, 1].max() < width
