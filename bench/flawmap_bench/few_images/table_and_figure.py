"""The table and the figure of curves over the number of good images."""

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flawmap_bench.few_images.curves import DINO, FLAWMAP, NO_VIEWS, PATCHCORE, Point

COLOURS = {FLAWMAP: "#c4442b", NO_VIEWS: "#e2a08f", DINO: "#2b5f8a", PATCHCORE: "#5d8a66"}
OTHER_COLOUR = "#999999"
LINES = {NO_VIEWS: "--"}


def table(points: Sequence[Point], tests: Mapping[str, tuple[int, int]], command: str) -> str:
    """Means over the draws with their ranges, and what flawmap's thresholds did, as Markdown.

    Args:
        points: of all boards, methods, numbers and draws.
        tests: of each board, how many good and anomalous test images there are.
        command: that computed the points.
    """
    lines = [f"`{command}`", ""]
    for board in dict.fromkeys(point.board for point in points):
        of_board = [point for point in points if point.board == board]
        numbers = list(dict.fromkeys(point.number for point in of_board))
        good, anomalous = tests[board]
        lines += [f"## {board}", "", f"{good} good and {anomalous} anomalous test images.", ""]
        heads = ["all" if number is None else str(number) for number in numbers]
        for title, measure in (("image AUROC", _auroc), ("AUPRO 0.3", lambda point: point.aupro)):
            if all(measure(point) is None for point in of_board):
                continue
            lines += [f"| {title} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
            for method in dict.fromkeys(point.method for point in of_board):
                cells = [_cell(of_board, method, number, measure) for number in numbers]
                lines.append(f"| {method} | {' | '.join(cells)} |")
            lines.append("")
        lines += [*_thresholds(of_board), ""]
    return "\n".join(lines)


def _thresholds(points: Sequence[Point]) -> list[str]:
    of_flawmap = [point for point in points if point.method == FLAWMAP]
    head = "| good images | rate promised | false alarms | defects missed | simulated ones missed | kinds of views |"
    lines = [head, "|---" * 6 + "|"]
    for number in dict.fromkeys(point.number for point in of_flawmap):
        draws = [point for point in of_flawmap if point.number == number]
        kinds = {kind: sum(kind in point.kinds for point in draws) for point in draws for kind in point.kinds}
        views = ", ".join(f"{kind} {count}/{len(draws)}" for kind, count in kinds.items()) or "none"
        cells = [
            _percent([getattr(point, name) for point in draws])
            for name in ("smallest_rate", "false_alarms", "missed", "missed_simulated")
        ]
        lines.append(f"| {'all' if number is None else number} | {' | '.join(cells)} | {views} |")
    return lines


def _percent(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    return f"{np.mean(found):.0%}" if found else "no threshold"


def _auroc(point: Point) -> float | None:
    return point.image_auroc


def _cell(points: Sequence[Point], method: str, number: int | None, measure: Callable[[Point], float | None]) -> str:
    found = [100 * value for value in _values(points, method, number, measure)]
    if not found:
        return "–"
    spread = f" ({min(found):.1f} to {max(found):.1f})" if len(found) > 1 else ""
    return f"{np.mean(found):.1f}{spread}"


def _values(
    points: Sequence[Point], method: str, number: int | None, measure: Callable[[Point], float | None]
) -> list[float]:
    some = (measure(point) for point in points if point.method == method and point.number == number)
    return [value for value in some if value is not None]


def figure_png(points: Sequence[Point]) -> bytes:
    """A panel for each board and measure: means over the draws, and their ranges."""
    boards = list(dict.fromkeys(point.board for point in points))
    figure = Figure((3.1 * len(boards) + 0.4, 5.6), layout="constrained", dpi=150)
    panels = figure.subplots(2, len(boards), squeeze=False)
    for column, board in enumerate(boards):
        of_board = [point for point in points if point.board == board]
        _panel(panels[0, column], of_board, _auroc)
        _panel(panels[1, column], of_board, lambda point: point.aupro)
        panels[0, column].set_title(board)
        panels[1, column].set_xlabel("good images")
    panels[0, 0].set_ylabel("image AUROC, %")
    panels[1, 0].set_ylabel("AUPRO 0.3, %")
    handles = {line.get_label(): line for panel in panels.flat for line in panel.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _panel(axes: Axes, points: Sequence[Point], measure: Callable[[Point], float | None]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4")
    numbers = list(dict.fromkeys(point.number for point in points))
    places = {number: place for place, number in enumerate(numbers)}
    if all(measure(point) is None for point in points):
        axes.text(0.5, 0.5, "no masks", ha="center", va="center", color="#777777", transform=axes.transAxes)
    for method in dict.fromkeys(point.method for point in points):
        found = {number: _values(points, method, number, measure) for number in numbers}
        found = {places[number]: 100 * np.array(values) for number, values in found.items() if values}
        if not found:
            continue
        at, colour = list(found), COLOURS.get(method, OTHER_COLOUR)
        axes.fill_between(
            at, [v.min() for v in found.values()], [v.max() for v in found.values()], color=colour, alpha=0.15, lw=0
        )
        means = [values.mean() for values in found.values()]
        width = 2.2 if method == FLAWMAP else 1.5
        axes.plot(at, means, LINES.get(method, "-"), color=colour, marker="o", ms=3.5, lw=width, label=method)
    axes.set_xticks(range(len(numbers)), ["all" if number is None else str(number) for number in numbers])
