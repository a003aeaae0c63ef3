"""The geometry of the report's charts; the template turns it into SVG."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_HIST_BINS = 48
_MAX_MARKS = 400  # of a strip, so that thousands of scores do not make the page heavy
_MAX_POINTS = 240  # of a curve
STAGE_TITLES = {
    "pretrain": "Stage 1: pre-training",
    "finetune": "Stage 2: fine-tuning",
    "residual": "The head on simulated defects",
}
_QUANTITIES = {"anomalous_share": "share of anomalous tokens", "found": "share of them that is found"}
_SMOOTH_FROM = 40  # steps: a shorter curve is drawn as it is
_NO_CURVE = frozenset({"step", "steps", "epoch", "epochs", "seed", "time", "timestamp", "seconds", "seconds_left"})


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis; ``at`` in SVG units."""

    at: float
    label: str


@dataclass(frozen=True)
class Bar:
    """One bar in SVG units, with the words for a tooltip."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear map from scores [low, high] to SVG units [left, right]."""

    low: float
    high: float
    left: float = 56.0
    right: float = 704.0

    def at(self, value: float) -> float:
        """SVG x of a score, clipped to the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.left + min(max(share, 0.0), 1.0) * (self.right - self.left), 2)

    def ticks(self) -> tuple[Tick, ...]:
        """At most nine round numbers."""
        return tuple(Tick(self.at(value), label) for value, label in round_numbers(self.low, self.high, 8))


@dataclass(frozen=True)
class Histogram:
    """Normal scores above the middle line and anomalous ones below it, as shares of their own class."""

    axis: Axis
    good: tuple[Bar, ...]
    anomalous: tuple[Bar, ...]
    share_ticks: tuple[Tick, ...]
    middle: float
    bottom: float
    threshold_x: float


@dataclass(frozen=True)
class Strip:
    """One row of marks, e.g. the held-out scores."""

    title: str
    n: int
    marks: tuple[float, ...]
    is_anomalous: bool


@dataclass(frozen=True)
class Curve:
    """One logged quantity over the steps of a stage; ``uniform_y`` is where a collapsed loss would lie.

    ``smooth`` is the path of the mean over a twentieth of the steps, and ``last`` its end; "" for a curve that is short
    or smooth by itself, whose ``last`` is its last value.
    """

    name: str
    path: str
    width: float
    height: float
    low: str
    high: str
    first_step: int
    last_step: int
    last: str
    uniform_y: float | None = None
    smooth: str = ""


def axis_of(scores: Sequence[float], threshold: float) -> Axis:
    """An axis that holds all scores and the threshold, with a little room at its ends."""
    low, high = min([*scores, threshold]), max([*scores, threshold])
    room = 0.03 * (high - low) or max(abs(high), 1.0) * 0.05
    return Axis(low - room, high + room)


def histogram(good: Sequence[float], anomalous: Sequence[float], threshold: float) -> Histogram:
    """Lays out the scores of both classes; one of them may be empty, not both.

    Shares, not counts, so that a hundred defects and a thousand good parts stay comparable. An empty class
    gets no room.
    """
    axis = axis_of([*good, *anomalous], threshold)
    edges = np.linspace(axis.low, axis.high, _HIST_BINS + 1)
    counts = [np.histogram(scores, edges)[0] for scores in (good, anomalous)]
    shares = [count / max(count.sum(), 1) for count in counts]
    peak = max(float(share.max()) for share in shares)
    top, room = 10.0, 105.0 if good and anomalous else 170.0
    middle = top + (room if good else 0.0)
    bottom = middle + (room if anomalous else 0.0)
    scale = room / (peak * 1.05)

    def bars(which: int, name: str) -> tuple[Bar, ...]:
        made = []
        for i in np.flatnonzero(counts[which]):
            x, height = axis.at(edges[i]), round(float(shares[which][i]) * scale, 2)
            width = round(axis.at(edges[i + 1]) - x - 1, 2)
            span = f"{edges[i]:.4g} to {edges[i + 1]:.4g}"
            label = f"{counts[which][i]} {name} ({shares[which][i]:.1%}) with scores {span}"
            made.append(Bar(x, round(middle - height, 2) if which == 0 else middle, width, height, label))
        return tuple(made)

    marks = [(value, label) for value, label in round_numbers(0.0, 100 * peak, 2) if value > 0]
    ticks = [Tick(round(middle - value / 100 * scale, 2), f"{label} %") for value, label in marks if good]
    ticks += [Tick(round(middle + value / 100 * scale, 2), f"{label} %") for value, label in marks if anomalous]
    return Histogram(axis, bars(0, "good"), bars(1, "anomalous"), tuple(ticks), middle, bottom, axis.at(threshold))


def strip(title: str, scores: Sequence[float], axis: Axis, is_anomalous: bool = False) -> Strip:
    """Places scores on an axis; of more than 400, 400 evenly by rank."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if ordered.size > _MAX_MARKS:
        ordered = ordered[np.linspace(0, ordered.size - 1, _MAX_MARKS).round().astype(int)]
    return Strip(title, len(scores), tuple(axis.at(float(score)) for score in ordered), is_anomalous)


def curves_of(
    log: Iterable[Mapping[str, Any]], uniform_entropy: float | None = None
) -> Mapping[str, tuple[Curve, ...]]:
    """Every numeric quantity of the log by stage, in the order of the stages; losses first, then by name.

    Values that are not finite are left out. ``uniform_loss``, the loss of a collapsed model that takes all
    prototypes for equally likely, gets no curve of its own but a line in that of the loss; ``uniform_entropy``, the
    entropy of such targets, is a line in that of ``target_entropy``.
    """
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for number, entry in enumerate(log):
        of_stage = points.setdefault(str(entry.get("stage", "training")), {})
        step = entry.get("step", number)
        for name, value in entry.items():
            if name not in _NO_CURVE and _is_number(value) and _is_number(step):
                of_stage.setdefault(name, []).append((float(step), float(value)))
    uniform = {stage: of_stage.pop("uniform_loss", [])[-1:] for stage, of_stage in points.items()}
    entropy = [] if uniform_entropy is None else [uniform_entropy]
    return {
        stage: tuple(
            _curve(
                name,
                of_stage[name],
                {"loss": [value for _, value in uniform[stage]], "target_entropy": entropy}.get(name, []),
            )
            for name in sorted(of_stage, key=lambda n: (n != "loss", "loss" not in n, n))
        )
        for stage, of_stage in points.items()
        if of_stage
    }


def _curve(name: str, points: list[tuple[float, float]], uniform: list[float]) -> Curve:
    width, height = 300.0, 96.0
    steps, values = np.array(sorted(points, key=lambda point: point[0])).T
    low, high = min([*values.tolist(), *uniform]), max([*values.tolist(), *uniform])
    first, last = float(steps[0]), float(steps[-1])
    kept = _thin(values)

    def x_of(steps: np.ndarray) -> np.ndarray:
        return (steps - first) / ((last - first) or 1.0) * width

    def y_of(numbers: np.ndarray) -> np.ndarray:
        return height - (numbers - low) / (high - low) * height if high > low else np.full(len(numbers), height / 2)

    path = _path(x_of(steps[kept]), y_of(values[kept]))
    if len(kept) == 1:
        path = f"M0,{y_of(values)[0]:.1f} L{width:.1f},{y_of(values)[0]:.1f}"
    smooth, end = "", float(values[-1])
    if values.size >= _SMOOTH_FROM and _is_noisy(values):
        window = np.full(values.size // 20, 1 / (values.size // 20))
        means, middles = np.convolve(values, window, "valid"), np.convolve(steps, window, "valid")
        kept, end = _thin(means), float(means[-1])
        smooth = _path(x_of(middles[kept]), y_of(means[kept]))
    words = _QUANTITIES.get(name, name.replace("_", " ").replace("/", " / "))
    return Curve(
        name=words,
        path=path,
        width=width,
        height=height,
        low=f"{low:.3g}",
        high=f"{high:.3g}",
        first_step=int(first),
        last_step=int(last),
        last=f"{end:.3g}",
        uniform_y=round(float(y_of(np.array(uniform))[0]), 1) if uniform else None,
        smooth=smooth,
    )


def _is_noisy(values: np.ndarray) -> bool:
    """Whether it turns back at more than every fifth step; a schedule does not."""
    return float(np.mean(np.diff(np.sign(np.diff(values))) != 0)) > 0.2


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + " L".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _thin(values: np.ndarray) -> np.ndarray:
    """Indices of about 240 points at most: the smallest and largest of each stretch, so that spikes stay."""
    if values.size <= _MAX_POINTS:
        return np.arange(values.size)
    kept = {0, values.size - 1}
    for stretch in np.array_split(np.arange(values.size), _MAX_POINTS // 2):
        kept |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    return np.array(sorted(kept))


def round_numbers(low: float, high: float, steps: int) -> list[tuple[float, str]]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high] with their labels, no more than ``steps`` + 1."""
    span = high - low
    if not span > 0:
        return [(low, f"{low:.4g}")]
    magnitude = 10.0 ** math.floor(math.log10(span / steps))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if span / (magnitude * factor) <= steps)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(number, f"{number:.{digits}f}" if digits < 7 else f"{number:.3g}") for number in numbers]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
