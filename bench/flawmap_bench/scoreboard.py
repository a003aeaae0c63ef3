"""Measured rows beside published ones: mean ± standard error over seeds, as Markdown, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flawmap.reproducibility import atomic_write_text


@dataclass(frozen=True)
class Measured:
    """Mean and standard error of a metric over seeds; the error is None for a single seed."""

    mean: float
    standard_error: float | None
    n: int


@dataclass(frozen=True)
class BoardRow:
    """One line of a table.

    Attributes:
        name: of the variant or method.
        image_auroc: in [0, 1] per seed; seeds that are not done yet are missing.
        pixel_auroc: in [0, 1] per seed; empty where the data has no masks.
        train_seconds: per seed, of the stages that this run trained itself (shared stages count where they ran).
        published: AUROC in % by ``image`` and ``pixel``.
        note: what a reader must know of this row.
    """

    name: str
    image_auroc: Mapping[int, float] = field(default_factory=dict)
    pixel_auroc: Mapping[int, float] = field(default_factory=dict)
    train_seconds: Mapping[int, float] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class BoardTable:
    """Rows under one title."""

    title: str
    rows: tuple[BoardRow, ...]


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


def write_scoreboard(folder: Path, tables: Sequence[BoardTable], about: Mapping[str, Any]) -> Path:
    """Write ``scoreboard.md``, ``.csv`` and ``.json`` into ``folder``, each in one step.

    Args:
        folder: exists already.
        tables: what was measured so far.
        about: command, data, budget, machine: whatever a reader needs to repeat it.

    Returns:
        the path of scoreboard.md.
    """
    content = {"about": dict(about), "tables": [_table_as_json(table) for table in tables]}
    atomic_write_text(folder / "scoreboard.json", json.dumps(content, indent=2))
    atomic_write_text(folder / "scoreboard.csv", _as_csv(tables))
    atomic_write_text(folder / "scoreboard.md", as_markdown(tables, about))
    return folder / "scoreboard.md"


def as_markdown(tables: Sequence[BoardTable], about: Mapping[str, Any]) -> str:
    """AUROC in %, mean ± standard error (number of seeds); published numbers in a column of their own."""
    lines = ["# Scoreboard", ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    for table in tables:
        lines += ["", f"## {table.title}", ""]
        lines.append(
            "| variant | image AUROC, measured | pixel AUROC, measured | image, *published* | pixel, *published* |"
        )
        lines.append("|---|---|---|---|---|")
        for row in table.rows:
            cells = [
                row.name + (f" ({row.note})" if row.note else ""),
                percent(measured(list(row.image_auroc.values()))),
                percent(measured(list(row.pixel_auroc.values()))),
                _published(row, "image"),
                _published(row, "pixel"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def class_table(title: str, columns: Sequence[str], lines: Mapping[str, Sequence[float | None]]) -> str:
    """A table with a column for each class as Markdown.

    Args:
        title: above it.
        columns: names of the classes and of what follows them, such as ``mean``.
        lines: numbers in % of each line, one for each column; None where there is none.
    """
    rows = [
        f"| {name} | {' | '.join('–' if v is None else f'{v:.1f}' for v in values)} |" for name, values in lines.items()
    ]
    header = [f"## {title}", "", f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    return "\n".join([*header, *rows]) + "\n"


def percent(value: Measured | None) -> str:
    """0.983 -> "98.3"; with the standard error and the number of seeds where there are several."""
    if value is None:
        return "–"
    if value.standard_error is None:
        return f"{100 * value.mean:.1f} (1 seed)"
    return f"{100 * value.mean:.1f} ± {100 * value.standard_error:.1f} ({value.n} seeds)"


def _published(row: BoardRow, kind: str) -> str:
    return f"{row.published[kind]:.1f}" if kind in row.published else "–"


def _table_as_json(table: BoardTable) -> dict[str, Any]:
    rows = []
    for row in table.rows:
        entry = asdict(row)
        for metric in ("image_auroc", "pixel_auroc"):
            summary = measured(list(getattr(row, metric).values()))
            entry[f"{metric}_summary"] = asdict(summary) if summary else None
        rows.append(entry)
    return {"title": table.title, "rows": rows}


def _as_csv(tables: Sequence[BoardTable]) -> str:
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(
        [
            "table",
            "variant",
            "seed",
            "image_auroc",
            "pixel_auroc",
            "train_seconds",
            "published_image_percent",
            "published_pixel_percent",
        ]
    )
    for table in tables:
        for row in table.rows:
            published = [row.published.get("image", ""), row.published.get("pixel", "")]
            for seed in sorted(row.image_auroc.keys() | row.pixel_auroc.keys()):
                values = [row.image_auroc.get(seed, ""), row.pixel_auroc.get(seed, ""), row.train_seconds.get(seed, "")]
                rows.writerow([table.title, row.name, seed, *values, *published])
    return buffer.getvalue()
