"""The page of all boards: one table, the means, false alarms, missed defects, published forms; board.md, board.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawmap.data.sample import LabelledImage
from flawmap.reproducibility import atomic_write_text
from flawmap_bench.boards.all_boards.false_alarms import (
    BAND_LEVEL,
    MIN_GOOD,
    FalseAlarms,
    MissedDefects,
    false_alarms,
    missed_defects,
)
from flawmap_bench.boards.all_boards.means import MEAN_MEASURES, MeanRow, mean_rows
from flawmap_bench.boards.all_boards.measures import (
    COSTS,
    IMAGE_AUROC,
    MEASURES,
    REGION_MEASURES,
    BoardRow,
    in_percent,
    view_values,
)
from flawmap_bench.boards.all_boards.published_form import published_sources, published_tables
from flawmap_bench.boards.scoreboard import Board, BoardLine, BoardTable, as_markdown, measured
from flawmap_bench.methods import is_recipe

COLUMNS = (
    "board",
    "method",
    *(measure.title for measure in MEASURES),
    "training, processor s",
    "per image, processor s",
    "peak memory, GiB",
    "seeds",
)


@dataclass(frozen=True)
class JudgedRow:
    """A row with its false alarms, and the defects that its threshold misses."""

    row: BoardRow
    alarms: Sequence[FalseAlarms]
    missed: MissedDefects | None


def judged(row: BoardRow, samples: Sequence[LabelledImage]) -> JudgedRow:
    """A row with what its thresholds do on the board's test images."""
    return JudgedRow(row, false_alarms(row.results, samples), missed_defects(row.results, samples))


def write_table(
    folder: Path,
    rows: Sequence[JudgedRow],
    everywhere: Sequence[str],
    on_xrays: Sequence[str],
    about: Mapping[str, str],
    notes: Sequence[str],
) -> Path:
    """Write ``board.md`` and ``board.json``, each in one step.

    Args:
        folder: exists already.
        rows: board by board; they may be unfinished.
        everywhere: methods that are run on every board.
        on_xrays: methods that are run on X-rays alone.
        about: what a reader needs to repeat it.
        notes: further ones, such as methods that were left out.

    Returns:
        the path of board.md.
    """
    plain = [one.row for one in rows]
    means = mean_rows(plain, everywhere, on_xrays)
    of_thresholds = _alarm_table(rows), _missed_table(rows), _region_table(plain)
    tables = [_main_table(plain), _means_table(means), _view_table(plain), *of_thresholds]
    page = Board(
        "All boards",
        about,
        [table for table in (*tables, *published_tables(plain)) if table.lines],
        [*_notes(plain), *notes, *published_sources(plain)],
    )
    content = {
        "about": dict(about),
        "rows": [_row_as_json(one) for one in rows],
        "means": [_mean_as_json(mean) for mean in means],
        "notes": list(page.notes),
    }
    atomic_write_text(folder / "board.json", json.dumps(content, indent=2))
    atomic_write_text(folder / "board.md", as_markdown(page))
    return folder / "board.md"


def _main_table(rows: Sequence[BoardRow]) -> BoardTable:
    lines = []
    for row in rows:
        train, image, memory = (row.cost(name) for name in COSTS)
        costs = (_number(train, ".0f"), _number(image, ".2f"), _number(memory and memory / 1024, ".1f"))
        board = f"{row.board.name} (image: mean within views)" if row.is_within_views else row.board.name
        cells = (board, row.title, *(in_percent(row.summary(measure)) for measure in MEASURES), *costs)
        lines.append(BoardLine((*cells, str(len(row.results))), is_recipe(row.method)))
    return BoardTable("Boards", COLUMNS, tuple(lines))


def _means_table(means: Sequence[MeanRow]) -> BoardTable:
    lines = []
    for mean in means:
        values = [mean.values[measure.key] for measure in MEAN_MEASURES]
        cells = (
            "–" if value is None else f"{100 * value[0]:.1f} ({value[1]} board{'' if value[1] == 1 else 's'})"
            for value in values
        )
        lines.append(BoardLine((mean.title, *cells)))
    columns = ("method", *(measure.title for measure in MEAN_MEASURES))
    return BoardTable("Mean over the boards that all methods have", columns, tuple(lines))


def _view_table(rows: Sequence[BoardRow]) -> BoardTable:
    """Image AUROC of all images together, where it mixes views, and within each view."""
    with_views = [row for row in rows if row.is_within_views]
    views = sorted({view for row in with_views for result in row.results.values() for view in view_values(result)})
    lines = []
    for row in with_views:
        results = list(row.results.values())
        together = measured([result["image"]["auroc"]["value"] for result in results])
        within = [measured([view_values(result)[view] for result in results]) for view in views]
        lines.append(BoardLine((row.board.name, row.title, *map(in_percent, (together, *within)))))
    columns = ("board", "method", "all images", *views)
    return BoardTable("Image AUROC within each view", columns, tuple(lines))


def _alarm_table(rows: Sequence[JudgedRow]) -> BoardTable:
    lines = []
    for one in rows:
        for alarm in one.alarms:
            wanted = f"{100 * alarm.rate:g} %"
            if alarm.smallest_rate > alarm.rate:
                wanted += f" ({alarm.n_calibration} support {100 * alarm.smallest_rate:.1f} %)"
            by_seed = ", ".join(_share(count, alarm.n_good) for _, count in sorted(alarm.alarms.items()))
            band = f"{_share(alarm.band[0], alarm.n_good)} to {_share(alarm.band[1], alarm.n_good)}"
            cells = (one.row.board.name, one.row.title, wanted, by_seed, _share(alarm.mean, alarm.n_good), band)
            lines.append(BoardLine((*cells, "yes" if alarm.is_inside else "**no**")))
    columns = ("board", "method", "wanted", "realised by seed, %", "mean, %", f"{BAND_LEVEL:.0%} band, %", "inside")
    return BoardTable(f"False alarms on {MIN_GOOD} or more good test images", columns, tuple(lines))


def _missed_table(rows: Sequence[JudgedRow]) -> BoardTable:
    lines = []
    for one in rows:
        if one.missed is not None:
            shares = one.missed.at_threshold, one.missed.at_quantile, one.missed.beyond
            cells = (f"{100 * share:.1f}" for share in shares)
            lines.append(BoardLine((one.row.board.name, one.row.title, *cells)))
    columns = ("board", "method", "missed at the threshold for 5 %", "at the test's 95th percentile", "beyond, points")
    return BoardTable("Defects missed, % (the percentile is a diagnostic and sets no threshold)", columns, tuple(lines))


def _region_table(rows: Sequence[BoardRow]) -> BoardTable:
    """What regions above the map's threshold are worth, of methods that have one."""
    lines = []
    for row in rows:
        cells = tuple(in_percent(row.summary(measure)) for measure in REGION_MEASURES)
        if any(row.summary(measure) for measure in REGION_MEASURES):
            lines.append(BoardLine((row.board.name, row.title, *cells)))
    columns = ("board", "method", *(measure.title for measure in REGION_MEASURES))
    title = "Regions above the map's threshold, %: F1 of their pixels, and the share of them that touch a defect"
    return BoardTable(title, columns, tuple(lines))


def _notes(rows: Sequence[BoardRow]) -> list[str]:
    """What methods say of themselves, with the boards on which they say it, and why runs failed."""
    boards_of: dict[str, list[str]] = {}
    for row in rows:
        for note in dict.fromkeys(result["note"] for result in row.results.values() if result.get("note")):
            boards_of.setdefault(f"{row.title}: {note}", []).append(row.board.name)
    notes = [f"{note} ({', '.join(boards)})" for note, boards in boards_of.items()]
    return notes + [f"{row.title}, {row.board.name}: failed, {why}" for row in rows for why in row.failures]


def _row_as_json(one: JudgedRow) -> dict[str, Any]:
    row, measures = one.row, (*MEASURES, *REGION_MEASURES)
    summaries = {measure.key: row.summary(measure) for measure in measures}
    return {
        "board": row.board.name,
        "method": row.method,
        "title": row.title,
        "seeds": sorted(row.results),
        "is_image_within_views": row.is_within_views,
        "by_seed": {
            measure.key: {str(seed): value for seed, value in row.values(measure).items()} for measure in measures
        },
        "mean": {key: summary and summary.mean for key, summary in summaries.items()},
        "standard_error": {key: summary and summary.standard_error for key, summary in summaries.items()},
        "image_auroc_of_all": {
            str(seed): result.get("image", {}).get(IMAGE_AUROC.name, {}).get("value")
            for seed, result in row.results.items()
        },
        "costs": {name: row.cost(name) for name in COSTS},
        "false_alarms": [
            {
                "rate": alarm.rate,
                "n_good": alarm.n_good,
                "n_calibration": alarm.n_calibration,
                "alarms": {str(seed): count for seed, count in alarm.alarms.items()},
                "mean": alarm.mean,
                "band": alarm.band,
                "is_inside": alarm.is_inside,
            }
            for alarm in one.alarms
        ],
        "missed_at_5_percent": one.missed
        and {"at_threshold": one.missed.at_threshold, "at_quantile": one.missed.at_quantile},
        "failures": list(row.failures),
    }


def _mean_as_json(mean: MeanRow) -> dict[str, Any]:
    values = {key: value and {"mean": value[0], "boards": value[1]} for key, value in mean.values.items()}
    return {"title": mean.title, **values}


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _share(count: int | float, total: int) -> str:
    return f"{100 * count / total:.1f}"
