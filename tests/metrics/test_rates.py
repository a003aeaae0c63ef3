"""The threshold's promise, by closed forms and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.metrics.rates import probability_of_alarms, threshold_for_false_alarm_rate


@pytest.mark.parametrize(
    ("n", "rate", "value"),
    [
        (99, 0.01, 99),
        (99, 0.05, 95),
        (99, 0.29, 71),
        (99, 0.07, 93),
        (9, 0.1, 9),
        (19, 0.5, 10),
        (20, 0.999, 1),
    ],
)
def test_scores_one_to_n_give_the_expected_rank(n: int, rate: float, value: float) -> None:
    threshold = threshold_for_false_alarm_rate(np.random.default_rng(1).permutation(np.arange(1, n + 1)), rate)
    assert threshold.value == value
    assert (threshold.rate, threshold.n) == (rate, n)
    assert threshold.smallest_resolvable_rate == 1 / (n + 1)
    assert threshold.is_resolved


def test_a_finer_rate_than_the_scores_resolve_takes_the_number_above_the_largest_and_says_so() -> None:
    threshold = threshold_for_false_alarm_rate([0.25, 0.75, 0.5], 0.01)
    assert threshold.value == np.nextafter(0.75, 1)
    assert threshold.smallest_resolvable_rate == 0.25
    assert not threshold.is_resolved


def test_just_resolvable_takes_the_largest_score_itself() -> None:
    assert threshold_for_false_alarm_rate([0.25, 0.75, 0.5], 0.25).value == 0.75


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0.001, 0.999))
def test_leaving_each_score_out_in_turn_keeps_the_rate(scores: list[float], rate: float) -> None:
    """The rank argument itself: each of n + 1 scores against the threshold of the other n."""
    false_alarms = [
        score > threshold_for_false_alarm_rate(scores[:i] + scores[i + 1 :], rate).value
        for i, score in enumerate(scores)
        if len(scores) > 1
    ]
    promised = max(rate, 1 / len(scores))
    assert sum(false_alarms) <= promised * len(scores) + 1e-6


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_a_smaller_rate_never_lowers_the_threshold(scores: list[int], one: float, other: float) -> None:
    fine, coarse = sorted((one, other))
    assert threshold_for_false_alarm_rate(scores, fine).value >= threshold_for_false_alarm_rate(scores, coarse).value


def test_tied_scores_raise_no_alarm_on_more_of_the_same() -> None:
    threshold = threshold_for_false_alarm_rate(np.full(50, 2.5), 0.1)
    assert threshold.value == 2.5
    assert not (np.full(50, 2.5) > threshold.value).any()  # what is_anomalous asks
    assert threshold_for_false_alarm_rate([*[2.5] * 49, 3.0], 0.04).value == 2.5  # the one above may raise an alarm


def test_alarms_beyond_the_promise_are_as_probable_as_a_simulation_says() -> None:
    rng = np.random.default_rng(3)
    n, m, rate = 30, 50, 0.1
    alarms = np.array(
        [(rng.random(m) > threshold_for_false_alarm_rate(rng.random(n), rate).value).sum() for _ in range(4000)]
    )
    for count in (0, 3, 8, 15):
        share = (alarms >= count).mean()
        assert probability_of_alarms(count, m, n, rate) == pytest.approx(share, abs=4 * 0.5 / 4000**0.5)
    assert probability_of_alarms(0, m, n, rate) == pytest.approx(1)
    # one held-out score, one new image: it lies above with probability one half
    assert probability_of_alarms(1, 1, 1, 0.5) == pytest.approx(0.5)
    # a rate that 9 scores cannot resolve is read as the finest that they can: the next is the highest, 1 in 10
    assert probability_of_alarms(1, 1, 9, 0.001) == pytest.approx(0.1)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.1), (49, 0.05), (30, 0.2), (10, 0.01)])
def test_simulated_false_alarm_rate_is_the_promised_one(n: int, rate: float) -> None:
    rng = np.random.default_rng(7)
    trials = 4000
    alarms = 0
    for _ in range(trials):
        scores = rng.gumbel(size=n + 1)
        alarms += bool(scores[n] > threshold_for_false_alarm_rate(scores[:n], rate).value)
    expected = math.floor((n + 1) * rate + 1e-9) / (n + 1) or 1 / (n + 1)
    deviation = 4 * math.sqrt(trials * expected * (1 - expected))  # 4 sigma of the binomial
    assert abs(alarms - trials * expected) < deviation


@pytest.mark.parametrize(
    ("scores", "rate", "message"),
    [
        ([], 0.1, "none"),
        ([1.0, np.nan], 0.1, "finite"),
        ([1.0], 0.0, r"0\.0"),
        ([1.0], 1.0, r"1\.0"),
    ],
)
def test_impossible_requests_are_refused(scores: list[float], rate: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold_for_false_alarm_rate(scores, rate)


def test_scores_of_the_caller_are_left_alone() -> None:
    scores = np.array([3.0, 1.0, 2.0])
    threshold_for_false_alarm_rate(scores, 0.5)
    assert scores.tolist() == [3.0, 1.0, 2.0]
