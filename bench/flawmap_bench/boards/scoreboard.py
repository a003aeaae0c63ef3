"""What every board is: tables of measured numbers beside published ones, written as Markdown, HTML, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from flawmap.reproducibility import atomic_write_text

PUBLISHED_MARK = "*published*"  # in the names of columns whose numbers were published by others


@dataclass(frozen=True)
class BoardLine:
    """One line of a table.

    Attributes:
        cells: texts; the first names the method or variant.
        is_ours: whether it is flawmap.
        best: indices of the cells that hold the best measured value of their column.
        failure: why there is nothing to show; empty where there is something.
    """

    cells: tuple[str, ...]
    is_ours: bool = False
    best: frozenset[int] = frozenset()
    failure: str = ""


@dataclass(frozen=True)
class BoardTable:
    """A table: its title, the names of its columns, its lines."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[BoardLine, ...]


@dataclass(frozen=True)
class Board:
    """All that a reader sees.

    Attributes:
        title: of the page.
        about: what a reader needs to repeat it: command, data, budget, machine.
        tables: in order.
        notes: on methods, and the sources of published numbers.
        chart: an SVG; empty for none.
    """

    title: str
    about: Mapping[str, str]
    tables: Sequence[BoardTable]
    notes: Sequence[str] = field(default_factory=tuple)
    chart: str = ""


@dataclass(frozen=True)
class Measured:
    """Mean and standard error of a metric over seeds; the error is None for a single seed."""

    mean: float
    standard_error: float | None
    n: int


def measured(values: Sequence[float]) -> Measured | None:
    """Mean and standard error s / sqrt(n), s with n - 1; None without values."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Measured(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Measured(mean, math.sqrt(variance / n), n)


def percent(value: Measured | None) -> str:
    """0.983 -> "98.3"; with the standard error and the number of seeds where there are several."""
    if value is None:
        return "–"
    if value.standard_error is None:
        return f"{100 * value.mean:.1f} (1 seed)"
    return f"{100 * value.mean:.1f} ± {100 * value.standard_error:.1f} ({value.n} seeds)"


def number_or_dash(value: float | None) -> str:
    """One decimal, or a dash for None."""
    return "–" if value is None else f"{value:.1f}"


def write_board(folder: Path, board: Board, content: Mapping[str, Any], rows: Sequence[Sequence[Any]]) -> Path:
    """Write ``scoreboard.md``, ``.html``, ``.csv`` and ``.json``, and the chart as ``.svg``, each in one step.

    Args:
        folder: exists already.
        board: for people.
        content: for ``.json``; ``about`` is added.
        rows: for ``.csv``, the header first.

    Returns:
        the path of scoreboard.md.
    """
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    atomic_write_text(folder / "scoreboard.json", json.dumps({"about": dict(board.about), **content}, indent=2))
    atomic_write_text(folder / "scoreboard.csv", table.getvalue())
    if board.chart:
        atomic_write_text(folder / "scoreboard.svg", board.chart)
    atomic_write_text(folder / "scoreboard.html", as_page(board))
    atomic_write_text(folder / "scoreboard.md", as_markdown(board))
    return folder / "scoreboard.md"


def as_markdown(board: Board) -> str:
    """The board as Markdown; the best measured values are bold."""
    lines = [f"# {board.title}", "", *(f"- {key}: {value}" for key, value in board.about.items())]
    for table in board.tables:
        lines += ["", f"## {table.title}", "", *table_lines(table)]
    if board.chart:
        lines += ["", "![Image AUROC against training time](scoreboard.svg)"]
    if board.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in board.notes)]
    return "\n".join(lines) + "\n"


def table_lines(table: BoardTable) -> list[str]:
    """A table as lines of Markdown, without its title."""
    lines = [f"| {' | '.join(table.columns)} |", "|---" * len(table.columns) + "|"]
    for line in table.lines:
        cells = [f"**{cell}**" if index in line.best else cell for index, cell in enumerate(line.cells)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def as_page(board: Board) -> str:
    """The board as one HTML page that needs no other file; everything but the chart is escaped."""
    template = files("flawmap_bench.boards").joinpath("page.html").read_text(encoding="utf-8")
    chart = board.chart[max(0, board.chart.find("<svg")) :]  # without the XML declaration
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            title=board.title,
            about=board.about,
            tables=board.tables,
            notes=board.notes,
            chart=chart,
            mark=PUBLISHED_MARK,
        )
    )
