"""The geometry of the report's charts; the template turns it into SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.report.curves import RateCurve, TrainingCurve
from flawmap.report.run_files import RunFiles

HISTOGRAM_BINS = 48
_MAX_MARKS = 400  # of a strip, so that thousands of scores do not make the page heavy
_MAX_POINTS = 240  # of a curve


@dataclass(frozen=True)
class Bar:
    """One bar in SVG units, with the text of its tooltip."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear map from values [low, high] to SVG units [left, right]."""

    low: float
    high: float
    left: float = 56.0
    right: float = 704.0

    def at(self, value: float) -> float:
        """The place of a value, clipped to the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.left + min(max(share, 0.0), 1.0) * (self.right - self.left), 2)

    def ticks(self, steps: int) -> list[tuple[float, str]]:
        """At most ``steps`` + 1 round numbers: where each is, and its label."""
        return [(self.at(value), label) for value, label in round_numbers(self.low, self.high, steps)]


@dataclass(frozen=True)
class Histogram:
    """Good scores above the middle line and anomalous ones below it, as shares of their own class."""

    axis: Axis
    good: tuple[Bar, ...]
    anomalous: tuple[Bar, ...]
    share_ticks: list[tuple[float, str]]
    middle: float
    bottom: float
    threshold_x: float


@dataclass(frozen=True)
class Strip:
    """One row of marks, such as the scores of good images."""

    title: str
    n: int
    marks: tuple[float, ...]


@dataclass(frozen=True)
class CurveChart:
    """A curve of training in a frame of SVG units.

    ``smooth`` is the path of the running mean, "" where there is none; ``collapsed_y`` is where a collapsed model lies.
    """

    curve: TrainingCurve
    path: str
    smooth: str
    low: float
    high: float
    collapsed_y: float | None
    width: float = 300.0
    height: float = 96.0


@dataclass(frozen=True)
class RateChart:
    """A rate curve in a frame of SVG units: x from 0 to ``size``, y from ``size`` (rate 0) to 0 (rate 1)."""

    curve: RateCurve
    path: str
    size: float
    x_axis: Axis
    y_axis: Axis
    chance: str


def axis_of(scores: Sequence[float], threshold: float) -> Axis:
    """An axis that holds all scores and the threshold, with a little room at its ends."""
    low, high = min([*scores, threshold]), max([*scores, threshold])
    room = 0.03 * (high - low) or max(abs(high), 1.0) * 0.05
    return Axis(low - room, high + room)


def score_chart(files: RunFiles) -> dict[str, Any] | None:
    """The histogram of test scores and what its slider needs; None without test images or threshold."""
    threshold = files.threshold
    if not files.images or threshold is None:
        return None
    good, anomalous = files.scores(is_anomalous=False), files.scores(is_anomalous=True)
    chart = histogram(good, anomalous, threshold)
    data = {
        "good": sorted(good),
        "anomalous": sorted(anomalous),
        "threshold": threshold,
        **vars(chart.axis),
    }
    return {
        "chart": chart,
        "data": data,
        "n_missed": sum(score <= threshold for score in anomalous),
        "n_false_alarms": sum(score > threshold for score in good),
    }


def histogram(good: Sequence[float], anomalous: Sequence[float], threshold: float) -> Histogram:
    """Lay out the scores of both classes; one of them may be empty, not both.

    The bars are shares, not counts, so that a hundred defects and a thousand good images can be compared. An empty
    class gets no room.
    """
    axis = axis_of([*good, *anomalous], threshold)
    edges = np.linspace(axis.low, axis.high, HISTOGRAM_BINS + 1)
    counts = [np.histogram(scores, edges)[0] for scores in (good, anomalous)]
    shares = [count / max(count.sum(), 1) for count in counts]
    peak = max(float(share.max()) for share in shares)
    top, room = 10.0, 105.0 if good and anomalous else 170.0
    middle = top + (room if good else 0.0)
    bottom = middle + (room if anomalous else 0.0)
    scale = room / (peak * 1.05)

    def bars(which: int, name: str) -> tuple[Bar, ...]:
        laid_out = []
        for i in np.flatnonzero(counts[which]):
            x, height = axis.at(edges[i]), round(float(shares[which][i]) * scale, 2)
            width = round(axis.at(edges[i + 1]) - x - 1, 2)
            span = f"{edges[i]:.4g} to {edges[i + 1]:.4g}"
            label = f"{counts[which][i]} {name} ({shares[which][i]:.1%}) with scores {span}"
            laid_out.append(Bar(x, round(middle - height, 2) if which == 0 else middle, width, height, label))
        return tuple(laid_out)

    marks = [(value, label) for value, label in round_numbers(0.0, 100 * peak, 2) if value > 0]
    ticks = [(round(middle - value / 100 * scale, 2), f"{label} %") for value, label in marks if good]
    ticks += [(round(middle + value / 100 * scale, 2), f"{label} %") for value, label in marks if anomalous]
    return Histogram(axis, bars(0, "good"), bars(1, "anomalous"), ticks, middle, bottom, axis.at(threshold))


def strip(title: str, scores: Sequence[float], axis: Axis) -> Strip:
    """Place scores on an axis; of more than 400, 400 evenly spaced by rank."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if ordered.size > _MAX_MARKS:
        ordered = ordered[np.linspace(0, ordered.size - 1, _MAX_MARKS).round().astype(int)]
    return Strip(title, len(scores), tuple(axis.at(float(score)) for score in ordered))


def curve_chart(curve: TrainingCurve) -> CurveChart:
    """Lay out a curve of training."""
    width, height = CurveChart.width, CurveChart.height
    levels = [*curve.values.tolist(), *([] if curve.collapsed is None else [curve.collapsed])]
    low, high = min(levels), max(levels)
    first, last = float(curve.steps[0]), float(curve.steps[-1])

    def y_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return height - (values - low) / (high - low) * height if high > low else np.full(len(values), height / 2)

    def path_of(steps: NDArray[np.float64], values: NDArray[np.float64]) -> str:
        kept = _thin(values)
        return _path((steps[kept] - first) / ((last - first) or 1.0) * width, y_of(values[kept]))

    path = path_of(curve.steps, curve.values)
    if curve.values.size == 1:
        path = _path(np.array([0.0, width]), y_of(curve.values).repeat(2))
    smooth = path_of(curve.smooth_steps, curve.smooth_values) if curve.smooth_values.size else ""
    collapsed_y = None if curve.collapsed is None else round(float(y_of(np.array([curve.collapsed]))[0]), 1)
    return CurveChart(curve, path, smooth, low, high, collapsed_y)


def rate_chart(curve: RateCurve) -> RateChart:
    """Lay out a rate curve."""
    size, limit = 240.0, curve.x_limit
    path = _path(np.minimum(curve.points[:, 0] / limit, 1) * size, (1 - curve.points[:, 1]) * size)
    first, last = curve.guess
    chance = f"M0,{(1 - first) * size:.0f} L{size:.0f},{(1 - last) * size:.0f}"
    return RateChart(curve, path, size, Axis(0.0, limit, 0.0, size), Axis(0.0, 1.0, size, 0.0), chance)


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    return "M" + " L".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _thin(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of about 240 points at most: the smallest and largest of each stretch, so that spikes stay."""
    if values.size <= _MAX_POINTS:
        return np.arange(values.size)
    kept = {0, values.size - 1}
    for stretch in np.array_split(np.arange(values.size), _MAX_POINTS // 2):
        kept |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    return np.array(sorted(kept))


def round_numbers(low: float, high: float, steps: int) -> list[tuple[float, str]]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high] with their labels, at most ``steps`` + 1."""
    span = high - low
    if not span > 0:
        return [(low, f"{low:.4g}")]
    magnitude = 10.0 ** math.floor(math.log10(span / steps))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if span / (magnitude * factor) <= steps)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(number, f"{number:.{digits}f}" if digits < 7 else f"{number:.3g}") for number in numbers]
