"""A chart as SVG: AUROC of each method against its training time, time on a logarithmic axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 56
LABEL_HEIGHT = 13
TICKS_S = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 36000.0, 86400.0)


@dataclass(frozen=True)
class TimePoint:
    """A method: training seconds, AUROC in [0, 1], and whether it is flawmap itself."""

    title: str
    seconds: float
    auroc: float
    is_ours: bool


def time_chart(points: Sequence[TimePoint], title: str) -> str:
    """The chart; without points, its empty frame."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
    ]
    first, last = _ends_s(points)
    low = min([0.5, *(math.floor(10 * point.auroc) / 10 for point in points)])
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def x_of(seconds: float) -> float:
        share = (math.log(max(seconds, first)) - math.log(first)) / (math.log(last) - math.log(first))
        return round(LEFT + share * (right - LEFT), 1)

    def y_of(auroc: float) -> float:
        return round(bottom - (auroc - low) / (1 - low) * (bottom - TOP), 1)

    for tick in TICKS_S:
        if first <= tick <= last:
            lines.append(f'<line x1="{x_of(tick)}" y1="{TOP}" x2="{x_of(tick)}" y2="{bottom}" stroke="#eeeeee"/>')
            lines.append(f'<text x="{x_of(tick)}" y="{bottom + 18}" text-anchor="middle">{_time_label(tick)}</text>')
    for tenth in range(round(10 * low), 11):
        y = y_of(tenth / 10)
        lines.append(f'<line x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#dddddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10 * tenth}</text>')
    lines.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">training time</text>')
    middle = (TOP + bottom) / 2
    lines.append(f'<text transform="rotate(-90 16 {middle})" x="16" y="{middle}" text-anchor="middle">AUROC, %</text>')
    labels_y: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: -p.auroc):
        x, y = x_of(point.seconds), y_of(point.auroc)
        colour = "#c4442b" if point.is_ours else "#2b5f8a"
        shown = f"{point.title}: {100 * point.auroc:.1f} %, {point.seconds:.0f} s"
        lines.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"><title>{escape(shown)}</title></circle>')
        to_left = x > (LEFT + right) / 2
        label_y = _free_height(x, y + 4, labels_y)
        anchor = 'text-anchor="end"' if to_left else ""
        text_x = x - 9 if to_left else x + 9
        lines.append(f'<text x="{text_x}" y="{label_y}" fill="{colour}" {anchor}>{escape(point.title)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _ends_s(points: Sequence[TimePoint]) -> tuple[float, float]:
    """Two ticks that enclose all times."""
    seconds = [point.seconds for point in points] or [10.0, 300.0]
    first = max([tick for tick in TICKS_S if tick <= min(seconds)], default=TICKS_S[0])
    last = min([tick for tick in TICKS_S if tick >= max(seconds)], default=TICKS_S[-1])
    return (first, last) if first < last else (first, 10 * first)


def _free_height(x: float, y: float, taken: list[tuple[float, float]]) -> float:
    """The nearest height from ``y`` downwards where no other label near ``x`` stands."""
    while any(abs(x - other_x) < 150 and abs(y - other_y) < LABEL_HEIGHT for other_x, other_y in taken):
        y += 2
    taken.append((x, y))
    return round(y, 1)


def _time_label(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
