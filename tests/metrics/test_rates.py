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


# ---- groups

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=12)
GRID = st.floats(0.01, 0.99)


def grouped_scores(sizes: list[int], seed: int) -> tuple[np.ndarray, list[str | None]]:
    """Rounded scores, many of them tied, that are alike within a group."""
    rng = np.random.default_rng(seed)
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return np.round(np.repeat(rng.normal(size=len(sizes)), sizes) + rng.normal(0, 0.3, len(groups)), 1), groups


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), GRID)
def test_groups_of_one_image_give_the_threshold_of_images(scores: list[float], rate: float) -> None:
    alone = threshold_for_false_alarm_rate(scores, rate)
    assert threshold_for_false_alarm_rate(scores, rate, [f"g{i}" for i in range(len(scores))]) == alone
    assert threshold_for_false_alarm_rate(scores, rate, [None] * len(scores)) == alone


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(2, 5), GRID)
def test_copies_of_a_group_tell_nothing_new(scores: list[float], copies: int, rate: float) -> None:
    groups = [f"g{i}" for i in range(len(scores))]
    alone = threshold_for_false_alarm_rate(scores, rate)
    assert threshold_for_false_alarm_rate(scores * copies, rate, groups * copies) == alone


@given(SIZES, st.integers(0, 99), GRID)
def test_leaving_each_group_out_in_turn_keeps_the_rate(sizes: list[int], seed: int, rate: float) -> None:
    """The rank argument with groups: the share of a group that the threshold of the others lets through, on average."""
    scores, groups = grouped_scores(sizes, seed)
    names = np.array(groups)
    shares = []
    for name in set(groups) if len(sizes) > 1 else ():
        others = threshold_for_false_alarm_rate(scores[names != name], rate, list(names[names != name]))
        shares.append((scores[names == name] > others.value).mean())
    assert sum(shares) <= max(rate, 1 / len(sizes)) * len(sizes) + 1e-6


@given(SIZES, st.integers(0, 99), GRID)
def test_the_threshold_is_the_smallest_that_keeps_the_rate_for_a_new_group(
    sizes: list[int], seed: int, rate: float
) -> None:
    scores, groups = grouped_scores(sizes, seed)
    threshold, n = threshold_for_false_alarm_rate(scores, rate, groups), len(sizes)
    assert (threshold.n, threshold.smallest_resolvable_rate) == (n, 1 / (n + 1))
    shares = {  # of all groups and a new one that lies above everything: sum of 1 / size over images above a score
        score: (1 + sum(1 / sizes[int(g[1:])] for s, g in zip(scores, groups, strict=True) if s > score)) / (n + 1)
        for score in scores
    }
    enough = [score for score, share in shares.items() if share <= rate + 1e-10]
    assert threshold.value == (min(enough) if enough else np.nextafter(scores.max(), np.inf))
    order = np.random.default_rng(seed).permutation(len(groups))
    assert threshold_for_false_alarm_rate(scores[order], rate, [groups[i] for i in order]) == threshold


def test_a_threshold_from_few_groups_promises_little() -> None:
    scores, groups = grouped_scores([10] * 4, 0)
    threshold = threshold_for_false_alarm_rate(scores, 0.1, groups)  # 40 images would do, 4 groups do not
    assert threshold_for_false_alarm_rate(scores, 0.1).is_resolved and not threshold.is_resolved
    assert (threshold.n, threshold.smallest_resolvable_rate) == (4, 0.2) and threshold.value > scores.max()
    with pytest.raises(ValueError, match="3 groups for 40 images"):
        threshold_for_false_alarm_rate(scores, 0.1, groups[:3])


def test_many_images_of_few_parts_do_not_resolve_a_fine_rate_and_only_groups_say_so() -> None:
    """Parts differ (deviation 1), images of a part hardly do (0.1): 100 images of ten parts are ten scores."""
    rng, alarms, trials, rate = np.random.default_rng(2), [0, 0], 1000, 0.03
    groups = [f"g{i}" for i in range(10) for _ in range(10)]
    for _ in range(trials):
        scores = np.repeat(rng.normal(size=11), 10) + rng.normal(0, 0.1, 110)
        thresholds = [threshold_for_false_alarm_rate(scores[:100], rate, given) for given in (groups, None)]
        assert [threshold.is_resolved for threshold in thresholds] == [False, True]  # 100 images claim to do
        alarms = [n + bool(scores[100] > t.value) for n, t in zip(alarms, thresholds, strict=True)]
    by_group, by_image = alarms
    promised = 1 / 11
    assert by_group <= trials * promised + 4 * math.sqrt(trials * promised * (1 - promised))
    assert by_image > 2 * rate * trials
