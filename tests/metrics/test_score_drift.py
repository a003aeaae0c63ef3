"""The drift test against every order there is, closed forms of the rates, scipy's exact method, and in words."""

import math
import warnings
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ks_2samp

from flawmap.metrics.score_drift import Drift, score_drift

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


def compared(
    before: np.ndarray, now: np.ndarray, threshold: float = 1e9, rate: float = 0.01, former: str = ""
) -> Drift:
    drift = score_drift(before, threshold, rate, now, former)
    assert drift is not None
    return drift


def alarms(n_before: int, n_now: int, n_alarms: int, rate: float, former: str = "") -> Drift:
    """So many false alarms, and otherwise the same distribution as before."""
    before, now = np.arange(n_before) / n_before, np.arange(n_now - n_alarms) / max(1, n_now - n_alarms)
    return compared(before, np.r_[now, np.full(n_alarms, 2.0)], 1.0, rate, former)


# ---- the scores


@given(SCORES, SCORES)
def test_statistic_and_p_value_are_scipys_ties_included(before: list[float], now: list[float]):
    drift = compared(np.array(before), np.array(now))
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        expected = ks_2samp(before, now, method="exact")
    assert drift.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert drift.p_value == pytest.approx(expected.pvalue, abs=1e-9)


def test_the_p_value_is_the_share_of_all_orders_that_differ_as_much():
    n, m = 3, 4
    orders = [set(chosen) for chosen in combinations(range(n + m), n)]
    drifts = [
        compared(np.array(sorted(chosen), float), np.array([k for k in range(n + m) if k not in chosen], float))
        for chosen in orders
    ]
    statistics = np.array([drift.statistic for drift in drifts])
    for drift in drifts:
        assert drift.p_value == pytest.approx((statistics >= drift.statistic - 1e-12).mean(), abs=1e-12)


def test_a_very_small_p_value_keeps_its_digits():
    drift = compared(np.arange(40.0), 100 + np.arange(40.0))
    assert drift.statistic == 1
    assert drift.p_value == pytest.approx(2 / math.comb(80, 40), rel=1e-9)


def test_it_agrees_with_scipy_for_thousands_of_scores():
    generator = np.random.default_rng(0)
    before, now = generator.normal(size=700), generator.normal(0.08, 1, size=1900)
    drift, expected = compared(before, now), ks_2samp(before, now, method="exact")
    assert (drift.statistic, drift.p_value) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-6)


@pytest.mark.parametrize(
    ("shift", "word", "advice"), [(3.0, "higher", "Calibrate with good images from here"), (-3.0, "lower", "find more")]
)
def test_the_sentence_names_the_direction_and_the_remedy(shift: float, word: str, advice: str):
    generator = np.random.default_rng(1)
    drift = compared(generator.normal(size=50), generator.normal(shift, 1, size=60))
    assert (drift.n_calibration, drift.n_now, drift.scores) == (50, 60, word) and drift.is_remarkable
    assert f"Their scores are {word} than those of the 50 images of the calibration (p = " in drift.text
    assert advice in drift.text and drift.text.endswith("(flawmap calibrate).")


def test_unchanged_scores_are_not_called_a_drift():
    generator = np.random.default_rng(2)
    drift = compared(generator.normal(size=50), generator.normal(size=60))
    assert drift.p_value > 0.01 and drift.scores == "alike" and not drift.is_remarkable
    assert "show no difference" in drift.text and "flawmap calibrate" not in drift.text


@pytest.mark.parametrize(
    ("n_before", "n_now", "finding"),
    [
        (9, 8, "too few images"),
        (21, 21, "too few images"),
        (22, 22, "alike"),
        (11, 400, "alike"),
        (10, 400, "too few images"),
    ],
)
def test_no_difference_is_said_only_where_a_large_one_would_be_seen(n_before: int, n_now: int, finding: str):
    """Kolmogorov's critical D at 1 % is 1.628 sqrt(1/n + 1/m), which is 0.5 at 21.2 images on each side."""
    drift = compared(np.arange(n_before) / n_before, np.arange(n_now) / n_now)
    assert drift.scores == finding
    assert (f"{n_now} and {n_before} images are too few to compare their scores" in drift.text) == (finding != "alike")


def test_few_scores_that_lie_apart_are_a_drift_all_the_same():
    drift = compared(np.arange(9.0), 100 + np.arange(8.0))
    assert drift.p_value == pytest.approx(2 / math.comb(17, 8)) and drift.scores == "higher"


def test_eight_images_with_a_p_value_of_a_hundredth_are_not_called_alike():
    """As a newcomer met it: p = 0.011 is no evidence that nothing has changed."""
    drift = compared(np.arange(9.0), np.array([1.5, *(6.5 + np.arange(7.0))]), 8.5, 0.01, "former")
    assert 0.01 < drift.p_value < 0.05
    assert drift.scores == "too few images" and "like" not in drift.text


# ---- the rate of false alarms


@given(st.integers(1, 400), st.data())
def test_the_interval_is_clopper_and_pearsons(n: int, data: st.DataObject):
    count = data.draw(st.integers(0, n))
    drift = alarms(40, n, count, 0.05)
    interval = binomtest(count, n).proportion_ci(0.95, "exact")
    assert drift.n_alarms == count
    assert (drift.rate_low, drift.rate_high) == pytest.approx((interval.low, interval.high), abs=1e-9)


@given(st.integers(1, 400))
def test_the_ends_without_and_with_nothing_but_false_alarms_are_closed_forms(n: int):
    none, all_of_them = alarms(40, n, 0, 0.05), alarms(40, n, n, 0.05)
    assert (none.rate_low, none.rate_high) == pytest.approx((0, 1 - 0.025 ** (1 / n)))
    assert (all_of_them.rate_low, all_of_them.rate_high) == pytest.approx((0.025 ** (1 / n), 1))


@pytest.mark.parametrize(
    ("n_before", "n_now", "n_alarms", "rate", "finding", "words"),
    [
        # 9 held-out images can promise 10 % only; the newcomer's case
        (
            9,
            37,
            7,
            0.01,
            "more",
            ("more than the wanted 1 %", "from 9 images can be that far off", "at least 99 (flawmap"),
        ),
        (40, 60, 12, 0.05, "more", ("not that far off by chance: these images differ", "images from here (flawmap")),
        (99, 300, 12, 0.01, "more", ("from 99 images can be that far off", "with more good images (flawmap")),
        (9, 8, 0, 0.01, "too few images", ("No false alarm on 8 good test images", "a rate up to 36.9 % fits as well")),
        (33, 182, 1, 0.01, "too few images", ("1 false alarm on 182 good test images", "too few images to tell")),
        (33, 183, 1, 0.01, "as wanted", ("that fits the wanted 1 % (a rate from 0.0138 % to 3.01 %)",)),
        (40, 60, 1, 0.05, "as wanted", ("1 false alarm on 60 good test images: that fits the wanted 5 %",)),
        (40, 400, 0, 0.05, "fewer", ("fewer than the wanted 5 % (a rate up to 0.918 %)", "may find more defects")),
        (1, 1, 1, 0.01, "more", ("1 false alarm on 1 good test image:", "A threshold from 1 image can be")),
    ],
)
def test_the_rate_is_compared_with_the_wanted_one(n_before, n_now, n_alarms, rate, finding, words):
    drift = alarms(n_before, n_now, n_alarms, rate)
    assert (drift.alarms, drift.wanted_rate) == (finding, rate)
    for part in words:
        assert part in drift.text, drift.text
    assert drift.is_remarkable == (finding in ("more", "fewer"))


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_a_rate_is_remarked_exactly_where_the_wanted_one_is_outside_of_the_interval(
    n: int, m: int, data: st.DataObject
):
    count, rate = data.draw(st.integers(0, m)), data.draw(st.sampled_from((0.001, 0.01, 0.05, 0.3)))
    drift = alarms(n, m, count, rate)
    assert drift.rate_low is not None and drift.rate_high is not None
    outside = not drift.rate_low <= rate <= drift.rate_high
    assert (drift.alarms in ("more", "fewer")) == outside
    too_few = 1 - 0.025 ** (1 / m) >= 2 * rate
    if not outside:
        assert drift.alarms == ("too few images" if too_few else "as wanted")


@pytest.mark.slow
def test_equal_distributions_are_rarely_said_to_differ():
    """Of 400 simulated evaluations: a rate outside of its interval is often explained by so few calibration images."""
    generator, blamed = np.random.default_rng(3), 0
    for _ in range(400):
        before = np.sort(generator.normal(size=40))
        drift = compared(before, generator.normal(size=60), float(before[-2]), 0.05)
        blamed += "these images differ" in drift.text
    assert blamed <= 400 * 0.05  # 2.5 % on each side at most


# ---- a new calibration


@pytest.mark.parametrize(("shift", "word", "alarm"), [(3.0, "higher", "more"), (-3.0, "lower", "too few images")])
@pytest.mark.parametrize("former", ["former", "default"])
def test_images_of_a_new_threshold_are_compared_with_the_former_one(shift: float, word: str, alarm: str, former: str):
    generator = np.random.default_rng(1)
    before, now = generator.normal(size=50), generator.normal(shift, 1, size=60)
    threshold = float(before.max())
    drift, of_test = compared(before, now, threshold, 0.02, former), compared(before, now, threshold, 0.02)
    assert drift.p_value == of_test.p_value and (drift.alarms, drift.scores) == (alarm, word)
    assert f"these 60 images with the {former} threshold" in drift.text
    assert f"{word} than those of the 50 images of the {former} calibration" in drift.text
    assert "test" not in drift.text and "flawmap calibrate" not in drift.text  # that is what was just done


def test_without_scores_on_a_side_there_is_nothing_to_compare():
    assert score_drift(np.zeros(0), 0.0, 0.01, np.ones(3)) is None
    assert score_drift(np.ones(3), 0.0, 0.01, np.zeros(0)) is None


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        score_drift(np.array([0.0, math.nan]), 0.0, 0.01, np.ones(3))


# ---- groups


def test_images_that_were_copied_tell_no_more_than_their_groups():
    """Ten copies of each image: the distributions are the same, and so is what can be told."""
    generator = np.random.default_rng(5)
    before, now = generator.normal(size=60), generator.normal(0.4, 1, size=50)
    alone = score_drift(before, 1.5, 0.05, now)
    copied = score_drift(np.tile(before, 10), 1.5, 0.05, np.tile(now, 10), n_groups=(60, 50))
    taken_for_more = score_drift(np.tile(before, 10), 1.5, 0.05, np.tile(now, 10))
    assert (copied.alarms, copied.scores, copied.statistic) == (
        alone.alarms,
        alone.scores,
        pytest.approx(alone.statistic),
    )
    assert (copied.rate_low, copied.rate_high) == (alone.rate_low, alone.rate_high)
    assert copied.p_value == pytest.approx(alone.p_value, rel=0.4) and taken_for_more.p_value < 1e-3 < alone.p_value
    assert (copied.n_now, copied.n_alarms) == (500, 10 * alone.n_alarms)
    assert f"{10 * alone.n_alarms} false alarms on 500 good test images (50 groups): " in copied.text
    assert "those of the 600 images (60 groups) of the calibration" in copied.text


@given(SCORES, SCORES)
def test_groups_of_one_image_are_compared_like_images(before: list[float], now: list[float]):
    one_each = score_drift(before, 1.0, 0.1, now, n_groups=(len(before), len(now)))
    alone = compared(np.array(before), np.array(now), 1.0, 0.1)
    assert (one_each.p_value, one_each.alarms, one_each.scores) == (alone.p_value, alone.alarms, alone.scores)


def test_few_groups_are_too_few_however_many_images_they_have():
    drift = score_drift(np.arange(200.0), 198.5, 0.05, np.arange(200.0), n_groups=(4, None))
    assert "200 and 4 groups of images are too few to compare" in drift.text and drift.scores == "too few images"
    many = score_drift(np.arange(200.0), 9.5, 0.05, np.arange(200.0), n_groups=(4, 3))
    assert "(200 and 4" not in many.text and "Calibrate with more good images, of at least 19 groups" in many.text
    assert "A threshold from 200 images (4 groups) can be that far off." in many.text
