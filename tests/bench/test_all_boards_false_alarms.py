"""False alarms and missed defects, by hand and against scipy's beta-binomial."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from flawmap.data.sample import LabelledImage
from flawmap.metrics.rates import alarm_probabilities
from flawmap_bench.boards.all_boards.false_alarms import (
    MIN_GOOD,
    alarm_band,
    false_alarms,
    missed_defects,
    threshold_of,
)


@given(m=st.integers(1, 120), n=st.integers(1, 400), rate=st.sampled_from([0.001, 0.01, 0.05, 0.2]))
def test_the_band_is_that_of_a_beta_binomial(m: int, n: int, rate: float):
    allowed = min(max(1, int((n + 1) * rate + 1e-9)), n)
    expected = betabinom(m, allowed, n + 1 - allowed)
    np.testing.assert_allclose(alarm_probabilities(m, n, rate), expected.pmf(np.arange(m + 1)), rtol=1e-7, atol=1e-12)
    low, high = alarm_band(m, n, rate)
    assert expected.cdf(low - 1) < 0.005 + 1e-9 and expected.cdf(low) > 0.005 - 1e-9
    assert expected.cdf(high - 1) < 0.995 + 1e-9 and expected.cdf(high) > 0.995 - 1e-9


def test_a_band_of_one_image_and_of_one_score():
    # one good image is above the threshold with a probability of l / (n + 1)
    assert alarm_band(1, 199, 0.01) == (0, 1)  # 1 %: more than the half percent above the band
    assert alarm_band(1, 1999, 0.001) == (0, 0)  # 0.1 %
    # one score, and so a uniform rate: each number of alarms from 0 to m has the probability 1 / (m + 1)
    assert alarm_band(99, 1, 0.5) == (0, 99)
    assert alarm_band(399, 1, 0.5) == (1, 397)
    assert alarm_band(399, 1, 0.5, level=0.5) == (99, 299)


def images(good: int, defective: int) -> list[LabelledImage]:
    return [
        LabelledImage(f"{label}{number}", Path("x"), label == "bad", label)
        for label, count in (("good", good), ("bad", defective))
        for number in range(count)
    ]


def result(calibration: list[tuple[float, str | None]], good: list[float], bad: list[float]) -> dict:
    scores = {f"good{number}": score for number, score in enumerate(good)}
    scores |= {f"bad{number}": score for number, score in enumerate(bad)}
    return {"good_scores": calibration, "image_scores": scores}


UNIFORM = [(float(score), None) for score in range(1, 100)]  # 1 to 99: the threshold for 5 % is 95, for 1 % 99


def test_alarms_are_counted_at_thresholds_of_the_run_s_own_images():
    good = [0.0] * 37 + [96.0, 97.0, 100.0]
    by_seed = {0: result(UNIFORM, good, [94.0, 96.0]), 1: result(UNIFORM, [0.0] * 40, [94.0, 96.0])}
    one, five = false_alarms(by_seed, images(40, 2))
    assert (one.rate, dict(one.alarms), one.mean) == (0.01, {0: 1, 1: 0}, 0.5)
    assert (five.rate, dict(five.alarms), five.mean) == (0.05, {0: 3, 1: 0}, 1.5)
    assert (one.n_good, one.n_calibration, one.smallest_rate) == (40, 99, 0.01)
    assert one.band == alarm_band(40, 99, 0.01) and one.is_inside and five.is_inside
    assert not false_alarms({0: result(UNIFORM, [100.0] * 40, [])}, images(40, 0))[1].is_inside


def test_few_good_images_or_no_thresholds_have_no_row():
    assert false_alarms({0: result(UNIFORM, [0.0] * 39, [])}, images(MIN_GOOD - 1, 0)) == []
    assert false_alarms({0: result([], [0.0] * 40, [])}, images(40, 0)) == []
    assert missed_defects({0: result([], [0.0] * 40, [1.0])}, images(40, 1)) is None
    assert missed_defects({0: result(UNIFORM, [], [1.0])}, images(0, 1)) is None


def test_groups_count_once():
    grouped = [(score, f"patient {number // 11}") for number, (score, _) in enumerate(UNIFORM)]
    found = threshold_of({"good_scores": grouped}, 0.05)
    assert found is not None and found.n == 9 and found.smallest_resolvable_rate == 0.1
    assert found.value == np.nextafter(99.0, np.inf)


def test_missed_beyond_those_at_the_test_s_own_percentile():
    good = [float(score) for score in range(20)]  # 5 % of them lie above 18
    run = result(UNIFORM, good, [10.0, 18.0, 19.0, 95.0, 96.0])
    found = missed_defects({0: run, 1: run}, images(20, 5))
    assert found is not None
    assert (found.at_threshold, found.at_quantile) == (pytest.approx(4 / 5), pytest.approx(2 / 5))
    assert found.beyond == pytest.approx(2 / 5)
