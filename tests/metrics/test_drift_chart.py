"""The chart against an independent count, its level against every toss there is, and its promise by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from flawmap.metrics.drift_chart import CHANGED_SHARES, LIMIT, UNCHANGED_SHARE, Chart, half_exceed


def charted(is_above: np.ndarray) -> list[Chart]:
    charts = [Chart()]
    for one in is_above.tolist():
        charts.append(charts[-1].after(one))
    return charts[1:]


# ---- the level


@pytest.mark.parametrize("n", [10, 11, 20, 100, 761, 1000])
def test_the_level_is_the_lowest_that_is_rarely_below_the_median(n: int) -> None:
    level = half_exceed([float(k) for k in range(1, n + 1)], n)  # the k-th smallest value is k
    assert level is not None
    assert binom.sf(level - 1, n, 0.5) <= 0.001 < binom.sf(level - 2, n, 0.5)


@pytest.mark.parametrize(("n", "n_independent"), [(0, 0), (1, 1), (9, 9), (500, 9)])
def test_fewer_than_ten_good_images_give_no_level(n: int, n_independent: int) -> None:
    assert half_exceed([0.5] * n, n_independent) is None


def test_images_of_groups_count_as_many_as_there_are_groups() -> None:
    values = [float(k) for k in range(1000)]
    of_groups, of_images, alone = half_exceed(values, 20), half_exceed(values, 1000), half_exceed(values[:20], 20)
    assert of_groups is not None and of_images is not None and alone is not None
    assert of_groups == 50 * (alone + 1) - 1 > of_images


# ---- the chart


@given(st.lists(st.booleans(), max_size=80))
def test_a_sum_is_the_highest_log_likelihood_ratio_of_all_changes(is_above: list[bool]) -> None:
    chart = ([Chart(), *charted(np.array(is_above, bool))])[-1]
    for share, total, n_since in zip(CHANGED_SHARES, chart.sums, chart.n_since, strict=True):
        gains = [math.log(share / 0.55) if one else math.log((1 - share) / 0.45) for one in is_above]
        last = [sum(gains[start:]) for start in range(len(gains))] + [0.0]  # of a change at each moment, or of none
        if LIMIT not in chart.sums:
            assert total == pytest.approx(max(last), abs=1e-9)
            assert n_since == 0 or sum(gains[len(gains) - n_since :]) == pytest.approx(total, abs=1e-9)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 59))
def test_one_more_image_above_the_level_never_lowers_a_sum(is_above: list[bool], at: int) -> None:
    before = ([Chart(), *charted(np.array(is_above, bool))])[-1]
    raised = list(is_above)
    if at < len(raised):
        raised[at] = True
    after = ([Chart(), *charted(np.array(raised, bool))])[-1]
    assert all(more >= less for more, less in zip(after.sums, before.sums, strict=True))


def test_a_complete_change_is_warned_of_after_27_images_and_forgotten_after_its_end() -> None:
    """ln(400,000) / ln(0.9 / 0.55) = 26.2."""
    assert math.log(400_000) / math.log(0.9 / UNCHANGED_SHARE) == pytest.approx(LIMIT / math.log(0.9 / 0.55))
    charts = charted(np.ones(100, bool))
    assert [chart.is_warning for chart in charts].index(True) == 26
    assert charts[-1].since == (100, 100) and max(charts[-1].sums) == LIMIT  # no higher
    ended = charts[-1]
    for number in range(400):
        ended = ended.after(number % 2 == 0)
    assert not ended.is_warning


def images_to_warnings(generator: np.random.Generator, share: float, n_streams: int, n_images: int) -> float:
    """Images per warning of streams in which each image is above the level with this probability; an array at a time.

    Begins again after a warning, as the bound counts it.
    """
    gains = np.array([[math.log((1 - s) / 0.45), math.log(s / 0.55)] for s in CHANGED_SHARES])  # (charts, 2)
    sums, n_warnings = np.zeros((n_streams, len(CHANGED_SHARES))), 0
    for _ in range(n_images):
        above = (generator.random(n_streams) < share).astype(int)
        sums = np.maximum(0, sums + gains[:, above].T)
        warns = (sums >= LIMIT).any(axis=1)
        n_warnings += int(warns.sum())
        sums[warns] = 0
    return n_streams * n_images / max(1, n_warnings)


def test_an_unchanged_stream_with_a_tenth_of_defects_keeps_the_promise() -> None:
    """55 % above the level is the worst that is promised: 20 million images, seed 0, at most one warning in 200,000.

    The limit is that of both measures together; each alone is to warn half as often.
    """
    assert images_to_warnings(np.random.default_rng(0), UNCHANGED_SHARE, 20_000, 1_000) >= 200_000


@pytest.mark.parametrize(("share", "at_most"), [(1.0, 27), (0.9, 60), (0.8, 160), (0.7, 450)])
def test_changes_are_found_after_so_many_images(share: float, at_most: int) -> None:
    generator, found = np.random.default_rng(1), []
    for _ in range(25):
        charts = charted(generator.random(3 * at_most) < share)
        found.append([chart.is_warning for chart in charts].index(True) + 1)
    assert np.median(found) <= at_most


# ---- scores of good images and of defects, from end to end


@pytest.mark.parametrize("defective", [0.05, 0.1])
@pytest.mark.parametrize("n_good", [20, 300])
def test_defects_alone_are_no_drift(defective: float, n_good: int) -> None:
    """20 streams of 1,000 images, each with a level from good images of its own."""
    generator, n_warned = np.random.default_rng(n_good), 0
    for _ in range(20):
        level = half_exceed(np.sort(generator.normal(size=n_good)).tolist(), n_good)
        values = generator.normal(size=1_000) + 8 * (generator.random(1_000) < defective)
        n_warned += any(chart.is_warning for chart in charted(values > level))
    assert n_warned == 0


def test_a_shifted_stream_is_a_drift_and_so_is_one_of_many_defects() -> None:
    generator = np.random.default_rng(2)
    level = half_exceed(np.sort(generator.normal(size=300)).tolist(), 300)
    assert any(chart.is_warning for chart in charted(generator.normal(1.0, 1.0, 400) > level))
    assert any(
        chart.is_warning for chart in charted(generator.normal(size=400) + 8 * (generator.random(400) < 0.6) > level)
    )
