"""The drift test against every order there is, against scipy's exact method, and in words."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from flawmap.metrics.score_drift import score_drift

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


@given(SCORES, SCORES)
def test_statistic_and_p_value_are_scipys_ties_included(before: list[float], now: list[float]):
    drift = score_drift(np.array(before), np.array(now))
    expected = ks_2samp(before, now, method="exact")
    assert drift is not None
    assert drift.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert drift.p_value == pytest.approx(expected.pvalue, abs=1e-9)


def test_the_p_value_is_the_share_of_all_orders_that_differ_as_much():
    n, m = 3, 4
    orders = [set(chosen) for chosen in combinations(range(n + m), n)]
    drifts = [
        score_drift(np.array(sorted(chosen), float), np.array([k for k in range(n + m) if k not in chosen], float))
        for chosen in orders
    ]
    statistics = np.array([drift.statistic for drift in drifts])
    for drift in drifts:
        assert drift.p_value == pytest.approx((statistics >= drift.statistic - 1e-12).mean(), abs=1e-12)


def test_a_very_small_p_value_keeps_its_digits():
    drift = score_drift(np.arange(40.0), 100 + np.arange(40.0))
    assert drift is not None and drift.statistic == 1
    assert drift.p_value == pytest.approx(2 / math.comb(80, 40), rel=1e-9)


def test_it_agrees_with_scipy_for_thousands_of_scores():
    generator = np.random.default_rng(0)
    before, now = generator.normal(size=700), generator.normal(0.08, 1, size=1900)
    drift, expected = score_drift(before, now), ks_2samp(before, now, method="exact")
    assert drift is not None
    assert (drift.statistic, drift.p_value) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-6)


@pytest.mark.parametrize(("shift", "word"), [(3.0, "higher"), (-3.0, "lower")])
def test_the_sentence_names_the_direction_and_the_remedy(shift: float, word: str):
    generator = np.random.default_rng(1)
    drift = score_drift(generator.normal(size=50), generator.normal(shift, 1, size=60))
    assert drift is not None and (drift.n_calibration, drift.n_now) == (50, 60)
    assert word in drift.text and "60" in drift.text and "50" in drift.text
    assert "flawmap calibrate" in drift.text and f"{drift.statistic:.2f}" in drift.text


def test_unchanged_scores_are_not_called_a_drift():
    generator = np.random.default_rng(2)
    drift = score_drift(generator.normal(size=50), generator.normal(size=60))
    assert drift is not None and drift.p_value > 0.01
    assert "flawmap calibrate" not in drift.text


@pytest.mark.parametrize(("shift", "words"), [(3.0, ("higher", "more")), (-3.0, ("lower", "fewer"))])
def test_images_of_a_new_threshold_are_compared_with_the_former_ones(shift: float, words: tuple[str, str]):
    generator = np.random.default_rng(1)
    before, now = generator.normal(size=50), generator.normal(shift, 1, size=60)
    drift, of_test = score_drift(before, now, sets_new_threshold=True), score_drift(before, now)
    assert drift is not None and of_test is not None and drift.p_value == of_test.p_value
    assert all(word in drift.text for word in (*words, "60", "50", "former calibration"))
    alike = score_drift(before, before[::2], sets_new_threshold=True)
    assert alike is not None and "former calibration" in alike.text
    assert "higher" not in alike.text and "lower" not in alike.text


def test_a_handful_of_scores_can_show_no_drift_and_the_text_says_so():
    drift = score_drift(np.array([0.0, 1.0]), np.arange(5.0, 11.0))  # apart, but p = 2 / C(8, 2) = 0.07
    assert drift is not None and drift.p_value == pytest.approx(2 / 28)
    assert "too few" in drift.text and "6" in drift.text and "2" in drift.text


def test_without_scores_on_a_side_there_is_nothing_to_compare():
    assert score_drift(np.zeros(0), np.ones(3)) is None
    assert score_drift(np.ones(3), np.zeros(0)) is None


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        score_drift(np.array([0.0, math.nan]), np.ones(3))
