"""Boards of variants, such as ablations: what each row measured with each seed, beside what is published."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flawmap_bench.boards import scoreboard
from flawmap_bench.boards.published import Published

COLUMNS = ("variant", "image AUROC, measured", "pixel AUROC, measured")
NOT_RUN_YET = "not run yet"  # a dash would look like a measure that does not exist
CSV_COLUMNS = (
    "table",
    "variant",
    "seed",
    "image_auroc",
    "pixel_auroc",
    "train_seconds",
    "published_image_percent",
    "published_pixel_percent",
)


@dataclass(frozen=True)
class VariantRow:
    """What one variant measured.

    Attributes:
        name: of the variant or method.
        image_auroc: in [0, 1] per seed; seeds that are not done yet are missing.
        pixel_auroc: in [0, 1] per seed; empty where the data has no masks.
        train_seconds: per seed, of the stages that this run trained itself (shared stages count where they ran).
        published: AUROC in %.
        note: what a reader must know of this row.
    """

    name: str
    image_auroc: Mapping[int, float] = field(default_factory=dict)
    pixel_auroc: Mapping[int, float] = field(default_factory=dict)
    train_seconds: Mapping[int, float] = field(default_factory=dict)
    published: Published = field(default_factory=Published)
    note: str = ""


@dataclass(frozen=True)
class VariantTable:
    """Rows under one title.

    Attributes:
        title: above the table.
        rows: in order.
        published_for: the data that the published numbers are of, where these are not the measured ones.
    """

    title: str
    rows: tuple[VariantRow, ...]
    published_for: str = ""


def write_variant_board(folder: Path, tables: Sequence[VariantTable], about: Mapping[str, str]) -> Path:
    """Write the files of a board, see :func:`flawmap_bench.boards.scoreboard.write_board`.

    Args:
        folder: exists already.
        tables: what was measured so far.
        about: what a reader needs to repeat it.

    Returns:
        the path of scoreboard.md.
    """
    board = scoreboard.Board("Scoreboard", about, [_shown(table) for table in tables])
    content = {"tables": [{"title": table.title, "rows": [_as_json(row) for row in table.rows]} for table in tables]}
    return scoreboard.write_board(
        folder, board, content, [CSV_COLUMNS, *(row for table in tables for row in _csv_rows(table))]
    )


def _shown(table: VariantTable) -> scoreboard.BoardTable:
    """AUROC in %, mean ± standard error (number of seeds); published numbers, if any, in columns of their own."""
    if not any(row.published.numbers() for row in table.rows):
        lines = tuple(replace(line, cells=line.cells[: len(COLUMNS)]) for line in map(_line, table.rows))
        return scoreboard.BoardTable(table.title, COLUMNS, lines)
    of = f" of {table.published_for}" if table.published_for else ""
    published = tuple(f"{kind}, {scoreboard.PUBLISHED_MARK}{of}" for kind in ("image", "pixel"))
    return scoreboard.BoardTable(table.title, COLUMNS + published, tuple(_line(row) for row in table.rows))


def _line(row: VariantRow) -> scoreboard.BoardLine:
    measured = [
        scoreboard.percent(scoreboard.measured(list(by_seed.values())))
        for by_seed in (row.image_auroc, row.pixel_auroc)
    ]
    if not row.image_auroc and not row.pixel_auroc and not row.note:
        measured = [NOT_RUN_YET, NOT_RUN_YET]
    published = [scoreboard.number_or_dash(number) for number in (row.published.image, row.published.pixel)]
    return scoreboard.BoardLine((row.name + (f" ({row.note})" if row.note else ""), *measured, *published))


def _as_json(row: VariantRow) -> dict[str, Any]:
    entry = asdict(row) | {"published": row.published.numbers()}
    for metric in ("image_auroc", "pixel_auroc"):
        summary = scoreboard.measured(list(entry[metric].values()))
        entry[f"{metric}_summary"] = asdict(summary) if summary else None
    return entry


def _csv_rows(table: VariantTable) -> list[list[Any]]:
    rows = []
    for row in table.rows:
        published = [row.published.image, row.published.pixel]
        for seed in sorted(row.image_auroc.keys() | row.pixel_auroc.keys()):
            values = [metric.get(seed) for metric in (row.image_auroc, row.pixel_auroc, row.train_seconds)]
            rows.append([table.title, row.name, seed, *values, *published])
    return rows
