"""A chart as SVG: AUROC of each method against its training time, time on a logarithmic axis."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

SIZE_INCHES = (8.6, 5.2)
OURS_COLOUR, OTHERS_COLOUR = "#c4442b", "#2b5f8a"
TICKS_S = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 36000.0, 86400.0)
LABEL_STEP_POINTS, LABEL_STEPS = 7, 40


@dataclass(frozen=True)
class TimePoint:
    """A method: training seconds, AUROC in [0, 1], and whether it is flawmap itself."""

    title: str
    seconds: float
    auroc: float
    is_ours: bool


def time_chart(points: Sequence[TimePoint], title: str) -> str:
    """The chart; without points, its empty frame. Equal points give equal text."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flawmap", "text.parse_math": False}):
        figure = Figure(SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot(title=title, xlabel="training time", ylabel="image AUROC, %", xscale="log")
        axes.axhline(50, color="#999999", linestyle="--", linewidth=1)
        axes.text(0.99, 50, "chance", color="#777777", ha="right", va="bottom", transform=axes.get_yaxis_transform())
        axes.grid(axis="y", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
        shortest, longest = _limits_s(points)
        points = [replace(point, seconds=max(point.seconds, shortest)) for point in points]
        for point in points:
            colour = OURS_COLOUR if point.is_ours else OTHERS_COLOUR
            axes.plot(point.seconds, 100 * point.auroc, "o", color=colour, gid=point.title, clip_on=False)
        axes.set_xlim(shortest, longest)
        axes.set_ylim(min([49, *(100 * point.auroc - 1 for point in points)]), 101)
        ticks = [tick for tick in TICKS_S if shortest <= tick <= longest]
        axes.set_xticks(ticks, [_time_label(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        figure.draw_without_rendering()  # sets the layout, which the places of labels depend on
        _add_labels(figure, axes, points)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue()


def _add_labels(figure: Figure, axes: Axes, points: Sequence[TimePoint]) -> None:
    """Name each point; a name moves up or down until it lies on no other name."""
    placed = []
    for point in sorted(points, key=lambda point: -point.auroc):
        label = axes.annotate(
            point.title,
            (point.seconds, 100 * point.auroc),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=OURS_COLOUR if point.is_ours else OTHERS_COLOUR,
            weight="bold" if point.is_ours else "normal",
            annotation_clip=False,
        )
        if label.get_window_extent().x1 > figure.bbox.x1:  # no room on the right
            label.set(ha="right", x=-8)
        for step in range(2 * LABEL_STEPS):
            sign = 1 if step % 2 else -1
            label.set_y(sign * LABEL_STEP_POINTS * ((step + 1) // 2))
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in placed):
                break
        placed.append(label.get_window_extent())


def _limits_s(points: Sequence[TimePoint]) -> tuple[float, float]:
    """Two ticks that enclose all times; shorter times than the first tick are shown there."""
    seconds = [point.seconds for point in points] or [10.0, 300.0]
    first = max([tick for tick in TICKS_S if tick <= min(seconds)], default=TICKS_S[0])
    last = min([tick for tick in TICKS_S if tick >= max(seconds)], default=TICKS_S[-1])
    return (first, last) if first < last else (first, 10 * first)


def _time_label(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
