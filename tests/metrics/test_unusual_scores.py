"""Which scores are unusually high: closed forms, and what moves the limit."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flawmap.metrics.unusual_scores import BY_CHANCE, limit_of_usual, unusual


def test_the_limit_of_evenly_spread_scores():
    scores = np.arange(101.0)  # median 50, upper quartile 75
    deviation = 25 / 0.6744897501960817
    assert limit_of_usual(scores) == pytest.approx(50 + deviation * NormalDist().inv_cdf(1 - 0.05 / 101))
    assert unusual(scores).tolist() == []


@pytest.mark.parametrize("n", [20, 300, 1000])
def test_gaussian_scores_have_a_twentieth_of_one_above_the_limit(n: int):
    normal = NormalDist(mu=-0.7, sigma=1.3)
    scores = [normal.inv_cdf((place + 0.5) / n) for place in range(n)]
    above = n * (1 - normal.cdf(limit_of_usual(scores)))
    assert above == pytest.approx(BY_CHANCE, abs=0.05)  # the quartile of few places is not quite that of the normal
    assert unusual(scores).size == 0


def test_the_lower_quartile_counts_where_it_is_farther_away():
    right = np.concatenate([np.linspace(-1, 0, 50, endpoint=False), np.linspace(0, 4, 51)])
    factor = NormalDist().inv_cdf(1 - 0.05 / 101) / NormalDist().inv_cdf(0.75)
    assert limit_of_usual(right) == pytest.approx(2 * factor)
    assert limit_of_usual(-right) == pytest.approx((0.5 + 2) / 2 * factor)


def test_chance_names_a_score_in_few_sets():
    generator = np.random.default_rng(3)
    with_any = [unusual(generator.normal(size=300)).size > 0 for _ in range(400)]
    assert 0.02 < np.mean(with_any) < 0.09


def test_an_outlier_is_named_first_and_what_lies_above_the_quartile_moves_no_limit():
    scores = np.random.default_rng(0).normal(size=300)
    scores[[17, 41]] = 9.0, 12.0
    assert unusual(scores).tolist() == [41, 17]
    before = limit_of_usual(scores)
    scores[41] = 1e6
    assert limit_of_usual(scores) == before


def test_equal_scores_and_few_scores_name_nothing():
    assert unusual(np.full(50, 2.5)).size == 0
    assert limit_of_usual([0, 1, 2, 3, 4, 5, 99]) == math.inf and unusual([0, 1, 2, 3, 4, 5, 99]).size == 0


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-50, 50, width=32), min_size=8, max_size=60),
    factor=st.sampled_from([0.25, 0.5, 2.0, 8.0]),
    seed=st.integers(0, 9),
)
def test_neither_scale_nor_order_matters(values: list[float], factor: float, seed: int):
    scores = np.array(values, np.float64)
    order = np.random.default_rng(seed).permutation(len(scores))
    assert limit_of_usual(factor * scores) == pytest.approx(factor * limit_of_usual(scores), abs=1e-9)
    found = unusual(scores)
    assert sorted(scores[found]) == sorted(scores[order][unusual(scores[order])])
    assert list(scores[found]) == sorted(scores[found], reverse=True)
