"""Geometry of the charts, computed again from the numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.report import charts
from flawmap.report.curves import RateCurve, training_curves


def test_axis_is_linear_and_clips() -> None:
    axis = charts.Axis(low=-1.0, high=3.0, left=100.0, right=500.0)
    assert [axis.at(value) for value in (-1.0, 0.0, 3.0, -9.0, 9.0)] == [100.0, 200.0, 500.0, 100.0, 500.0]


def test_axis_of_equal_scores_has_room() -> None:
    axis = charts.axis_of([2.0, 2.0], 2.0)
    assert axis.low < 2.0 < axis.high


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(2, 10))
def test_round_numbers_are_inside_few_and_evenly_spaced(low: float, span: float, at_most: int) -> None:
    numbers = charts.round_numbers(low, low + span, at_most)
    values = [value for value, _ in numbers]
    assert len(numbers) <= at_most + 1
    assert all(low - 1e-6 * span <= value <= low + span + 1e-6 * span for value in values)
    if len(values) > 2:
        assert np.allclose(np.diff(values), values[1] - values[0])
    for value, label in numbers:
        assert float(label) == pytest.approx(value, abs=1e-9)


def test_round_numbers_known() -> None:
    assert [label for _, label in charts.round_numbers(0.0, 1.0, 6)] == [
        "0.0",
        "0.2",
        "0.4",
        "0.6",
        "0.8",
        "1.0",
    ]
    assert [label for _, label in charts.round_numbers(-30.0, 120.0, 4)] == ["0", "50", "100"]
    assert charts.round_numbers(3.0, 3.0, 4) == [(3.0, "3")]


def test_histogram_heights_are_shares_of_each_class() -> None:
    rng = np.random.default_rng(4)
    good, anomalous = rng.normal(0, 1, 300).tolist(), rng.normal(2, 1, 50).tolist()
    chart = charts.histogram(good, anomalous, 1.0)
    heights = [sum(bar.height for bar in bars) for bars in (chart.good, chart.anomalous)]
    assert heights[0] == pytest.approx(heights[1], rel=1e-3)  # both sum to 100 %
    assert all(bar.y + bar.height == pytest.approx(chart.middle, abs=0.02) for bar in chart.good)
    assert all(bar.y == chart.middle for bar in chart.anomalous)
    assert chart.threshold_x == chart.axis.at(1.0)
    counted = [sum(int(bar.label.split()[0]) for bar in bars) for bars in (chart.good, chart.anomalous)]
    assert counted == [300, 50]


def test_a_class_without_scores_gets_no_room() -> None:
    chart = charts.histogram([1.0, 2.0], [], 1.5)
    assert chart.anomalous == ()
    assert chart.bottom == chart.middle
    chart = charts.histogram([], [1.0, 2.0], 1.5)
    assert chart.good == ()
    assert chart.middle == 10.0


def test_strip_draws_a_large_set_evenly_by_rank() -> None:
    axis = charts.Axis(0.0, 1.0)
    few = charts.strip("few", [0.5, 0.25], axis)
    assert few.marks == (axis.at(0.25), axis.at(0.5))
    many = charts.strip("many", np.linspace(0, 1, 10_000).tolist(), axis)
    assert (many.n, len(many.marks)) == (10_000, 400)
    assert (many.marks[0], many.marks[-1]) == (axis.left, axis.right)


def rate_curve(points: list[list[float]], x_limit: float = 1.0, guess: tuple[float, float] = (0.0, 1.0)) -> RateCurve:
    return RateCurve("title", "summary", "x", "y", np.array(points), x_limit, guess)


def test_a_rate_curve_is_laid_out_in_its_frame() -> None:
    chart = charts.rate_chart(rate_curve([[0, 0], [0.15, 0.5], [0.3, 1.0]], 0.3, (0.0, 0.3)))
    assert chart.path == "M0.0,240.0 L120.0,120.0 L240.0,0.0"
    assert chart.x_axis.ticks(5) == [(0, "0.0"), (80, "0.1"), (160, "0.2"), (240, "0.3")]
    assert chart.chance == "M0,240 L240,168"
    chart = charts.rate_chart(rate_curve([[0.2, 0.9], [1, 0.2]], guess=(0.04, 0.04)))
    assert (chart.path, chart.chance) == ("M48.0,24.0 L240.0,192.0", "M0,230 L240,230")


def chart_of(values: list[float], **others: float) -> charts.CurveChart:
    """The chart of ``loss`` in a log of one stage."""
    log = [{"stage": "s", "step": step, "loss": value, **others} for step, value in enumerate(values)]
    return charts.curve_chart(training_curves(log)["s"][0])


def test_a_curve_of_training_fills_its_frame() -> None:
    chart = chart_of([3.0, 1.0])
    assert (chart.low, chart.high) == (1, 3)
    assert (chart.path, chart.smooth, chart.collapsed_y) == ("M0.0,0.0 L300.0,96.0", "", None)
    assert chart_of([5.0]).path == "M0.0,48.0 L300.0,48.0"


def test_a_noisy_curve_has_its_running_mean_drawn_in_the_middle_of_each_window() -> None:
    chart = chart_of([2.0 if step % 2 else 0.0 for step in range(80)])
    points = [tuple(float(number) for number in point.split(",")) for point in chart.smooth[1:].split(" L")]
    assert {y for _, y in points} == {48.0} and len(points) == 77  # four steps in a row have the mean 1
    assert points[0][0] == pytest.approx(1.5 / 79 * 300, abs=0.06)
    assert points[-1][0] == pytest.approx(77.5 / 79 * 300, abs=0.06)


def test_the_value_of_a_collapsed_model_is_a_line_in_the_chart() -> None:
    chart = chart_of([2.0, 1.0], uniform_loss=3.0)
    assert (chart.low, chart.high, chart.collapsed_y) == (1, 3, 0.0)
    assert chart.path == "M0.0,48.0 L300.0,96.0"
    flat = chart_of([3.0, 3.0], uniform_loss=3.0)
    assert (flat.path, flat.collapsed_y) == ("M0.0,48.0 L300.0,48.0", 48.0)


def test_a_long_curve_is_thinned_but_keeps_its_spike() -> None:
    chart = chart_of([100.0 if step == 7777 else 1.0 for step in range(20_000)])
    points = [tuple(float(number) for number in point.split(",")) for point in chart.path[1:].split(" L")]
    assert len(points) < 300
    assert min(points, key=lambda point: point[1])[0] == pytest.approx(7777 / 19_999 * 300, abs=0.1)
    assert sum(y == 0.0 for _, y in points) == 1
