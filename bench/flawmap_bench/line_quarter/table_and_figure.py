"""The table and the figure of a quarter on a line."""

import io
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flawmap_bench.line_quarter.lines import CALIBRATED, NOTHING, SAMPLE_ALONE, UPDATED
from flawmap_bench.line_quarter.operator import Week
from flawmap_bench.line_quarter.parts import OTHER_CAMERA_FROM, OTHER_PRODUCT_FROM, WEEKS

Quarters = Sequence[Sequence[Week]]  # one for each seed
CHANGES = {OTHER_CAMERA_FROM: "other camera", OTHER_PRODUCT_FROM: "other product as well"}  # in these weeks


def _phases() -> dict[str, range]:
    """The weeks by name; that of a change is a phase of its own, because no Friday has followed yet."""
    phases, ends = (
        {f"weeks 1 to {OTHER_CAMERA_FROM - 1}, as trained": range(1, OTHER_CAMERA_FROM)},
        [*CHANGES, WEEKS + 1],
    )
    for (week, change), end in zip(CHANGES.items(), ends[1:], strict=True):
        phases[f"week {week}, {change}"] = range(week, week + 1)
        phases[f"weeks {week + 1} to {end - 1}"] = range(week + 1, end)
    return phases


COLOURS = {NOTHING: "#8a8a8a", CALIBRATED: "#2b5f8a", SAMPLE_ALONE: "#7fb0d6", UPDATED: "#c4442b"}
MEASURES: dict[str, Callable[[Sequence[Week]], float]] = {
    "false alarms, % of good parts": lambda weeks: 100 * _share(weeks, "false_alarms", "good"),
    "missed, % of defective parts": lambda weeks: 100 * _share(weeks, "missed", "defective"),
    "operator's actions a week": lambda weeks: fmean(week.actions for week in weeks),
    "alarms not reviewed a week": lambda weeks: fmean(week.not_reviewed for week in weeks),
}
SHOWN = tuple(MEASURES)[:3]  # in the figure


def _share(weeks: Sequence[Week], part: str, whole: str) -> float:
    return sum(getattr(week, part) for week in weeks) / sum(getattr(week, whole) for week in weeks)


def table(boards: Mapping[str, Mapping[str, Quarters]]) -> str:
    """For each board and phase, each line's measures: means over the seeds, with their range.

    Args:
        boards: by board and line.
    """
    lines: list[str] = []
    for board, by_line in boards.items():
        num_seeds = len(next(iter(by_line.values())))
        lines += [f"{board}, {num_seeds} seed{'s' if num_seeds > 1 else ''}:", ""]
        lines += [f"| {' | '.join(['phase', 'each Friday', *MEASURES])} |", "|---" * (len(MEASURES) + 2) + "|"]
        for phase, numbers in _phases().items():
            for place, (name, quarters) in enumerate(by_line.items()):
                cells = [_cell(quarters, numbers, measure) for measure in MEASURES.values()]
                lines.append(f"| {' | '.join(['' if place else phase, name, *cells])} |")
        lines.append("")
    return "\n".join(lines)


def _cell(quarters: Quarters, numbers: Sequence[int], measure: Callable[[Sequence[Week]], float]) -> str:
    values = [measure([week for week in quarter if week.week in numbers]) for quarter in quarters]
    spread = f" ({min(values):.0f} to {max(values):.0f})" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{spread}"


def figure_png(boards: Mapping[str, Mapping[str, Quarters]]) -> bytes:
    """A row for each board and a panel for each measure: the weeks of each line, means over the seeds."""
    figure = Figure((11, 2.7 * len(boards) + 0.5), layout="constrained", dpi=150)
    panels = figure.subplots(len(boards), len(SHOWN), squeeze=False)
    for row, (board, by_line) in zip(panels, boards.items(), strict=True):
        for axes, measure in zip(row, SHOWN, strict=True):
            _panel(axes, by_line, MEASURES[measure])
        row[0].set_ylabel(board, fontsize=11)
    for column, measure in enumerate(SHOWN):
        panels[0, column].set_title(measure, fontsize=10)
        panels[-1, column].set_xlabel("week")
    handles = {line.get_label(): line for line in panels[0, 0].get_lines() if line.get_label() in COLOURS}
    title = "each Friday:"
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False, title=title
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _panel(axes: Axes, by_line: Mapping[str, Quarters], measure: Callable[[Sequence[Week]], float]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e9e9e9")
    weeks = range(1, WEEKS + 1)
    highest = 1.0
    for name, quarters in by_line.items():
        values = [fmean([measure([quarter[week - 1]]) for quarter in quarters]) for week in weeks]
        highest = max(highest, *values)
        wide = 2.2 if name == UPDATED else 1.5
        axes.plot(weeks, values, color=COLOURS[name], marker="o", ms=3.5, lw=wide, label=name)
    axes.set_ylim(-0.03 * highest, 1.18 * highest)
    for week, text in CHANGES.items():
        axes.axvline(week - 0.5, color="#555555", lw=0.8, ls=":")
        axes.text(week - 0.4, 1.17 * highest, text.replace(" as well", ""), fontsize=8, color="#555555", va="top")
    axes.set_xticks([1, 3, 5, 7, 9, 11, 13])
