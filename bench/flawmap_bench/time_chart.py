"""A chart as SVG: AUROC of each method against its training time, time on a logarithmic axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 60, 24, 44, 56
RADIUS = 5.0
LABEL_HEIGHT, CHARACTER_WIDTH, LABEL_GAP = 14.0, 6.9, 9.0
TICKS_S = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 36000.0, 86400.0)
CHANCE = 0.5
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class TimePoint:
    """A method: training seconds, AUROC in [0, 1], and whether it is flawmap itself."""

    title: str
    seconds: float
    auroc: float
    is_ours: bool


def time_chart(points: Sequence[TimePoint], title: str) -> str:
    """The chart; without points, its empty frame."""
    first, last = _ends_s(points)
    low = min([CHANCE, *(math.floor(10 * point.auroc) / 10 for point in points)])
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def x_of(seconds: float) -> float:
        share = (math.log(max(seconds, first)) - math.log(first)) / (math.log(last) - math.log(first))
        return round(LEFT + share * (right - LEFT), 1)

    def y_of(auroc: float) -> float:
        return round(bottom - (auroc - low) / (1 - low) * (bottom - TOP), 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12.5" fill="#222222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for tick in TICKS_S:
        if first <= tick <= last:
            lines.append(f'<line x1="{x_of(tick)}" y1="{TOP}" x2="{x_of(tick)}" y2="{bottom}" stroke="#eeeeee"/>')
            lines.append(f'<text x="{x_of(tick)}" y="{bottom + 18}" text-anchor="middle">{_time_label(tick)}</text>')
    for tenth in range(round(10 * low), 11):
        y, is_chance = y_of(tenth / 10), tenth == round(10 * CHANCE)
        style = 'stroke="#999999" stroke-dasharray="5 4"' if is_chance else 'stroke="#dddddd"'
        lines.append(f'<line x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}" {style}/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10 * tenth}</text>')
    chance_y = y_of(CHANCE) - 5
    lines.append(f'<text x="{right - 4}" y="{chance_y}" text-anchor="end" fill="#777777" font-size="11">chance</text>')
    lines.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">training time</text>')
    middle = (TOP + bottom) / 2
    lines.append(
        f'<text transform="rotate(-90 16 {middle})" x="16" y="{middle}" text-anchor="middle">image AUROC, %</text>'
    )
    placed = [(point, x_of(point.seconds), y_of(point.auroc)) for point in sorted(points, key=lambda p: -p.auroc)]
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for _, x, y in placed]
    for point, x, y in placed:
        lines += _point(point, x, y, taken)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _point(point: TimePoint, x: float, y: float, taken: list[Box]) -> list[str]:
    """A dot and its name, with a line between them where the name had to move away."""
    colour = "#c4442b" if point.is_ours else "#2b5f8a"
    shown = f"{point.title}: {100 * point.auroc:.1f} %, {point.seconds:.0f} s"
    label_x, label_y, anchor = _label_place(point.title, x, y, taken)
    lines = []
    if abs(label_y - y) > LABEL_HEIGHT / 2:
        lines.append(f'<line x1="{x}" y1="{y}" x2="{label_x}" y2="{label_y}" stroke="{colour}" stroke-opacity="0.5"/>')
    lines.append(f'<circle cx="{x}" cy="{y}" r="{RADIUS:g}" fill="{colour}"><title>{escape(shown)}</title></circle>')
    weight = ' font-weight="600"' if point.is_ours else ""
    lines.append(
        f'<text x="{label_x}" y="{label_y + 4:.1f}" fill="{colour}" text-anchor="{anchor}"{weight}>'
        f"{escape(point.title)}</text>"
    )
    return lines


def _label_place(title: str, x: float, y: float, taken: list[Box]) -> tuple[float, float, str]:
    """Where the middle of a label's near end goes, and its anchor: beside its dot, as near as there is room.

    The label's box is added to ``taken``. Where there is no room at all it stands beside its dot all the same.
    """
    width = CHARACTER_WIDTH * len(title)
    moves = [sign * 3.0 * step for step in range(60) for sign in ((1, -1) if step else (1,))]
    for move in moves:
        for anchor, near, left in (
            ("start", x + LABEL_GAP, x + LABEL_GAP),
            ("end", x - LABEL_GAP, x - LABEL_GAP - width),
        ):
            box = (left, y + move - LABEL_HEIGHT / 2, left + width, y + move + LABEL_HEIGHT / 2)
            inside = box[0] > LEFT and box[2] < WIDTH - 4 and box[1] > TOP - 8 and box[3] < HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                return round(near, 1), round(y + move, 1), anchor
    return x + LABEL_GAP, y, "start"


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ends_s(points: Sequence[TimePoint]) -> tuple[float, float]:
    """Two ticks that enclose all times."""
    seconds = [point.seconds for point in points] or [10.0, 300.0]
    first = max([tick for tick in TICKS_S if tick <= min(seconds)], default=TICKS_S[0])
    last = min([tick for tick in TICKS_S if tick >= max(seconds)], default=TICKS_S[-1])
    return (first, last) if first < last else (first, 10 * first)


def _time_label(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
