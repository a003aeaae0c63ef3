"""The board of methods: what was measured, and apart from it what was published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawmap_bench.boards.published import Published, published_for
from flawmap_bench.boards.scoreboard import (
    PUBLISHED_MARK,
    Board,
    BoardLine,
    BoardTable,
    measured,
    number_or_dash,
    percent,
    write_board,
)
from flawmap_bench.boards.time_chart import TimePoint, time_chart
from flawmap_bench.methods import is_recipe

COLUMNS = (
    "method",
    "image AUROC, measured",
    "pixel AUROC, measured",
    "AUPRO 30 %, measured",
    "training, s",
    "per image, s",
    "peak memory, MiB",
    "numbers kept, millions",
    f"image AUROC, {PUBLISHED_MARK}",
    f"pixel AUROC, {PUBLISHED_MARK}",
)
CSV_COLUMNS = (
    "method",
    "title",
    "seed",
    "image_auroc",
    "image_low",
    "image_high",
    "pixel_auroc",
    "pixel_low",
    "pixel_high",
    "aupro_30",
    "train_seconds",
    "seconds_per_image",
    "peak_memory_mib",
    "parameters",
    "note",
    "published_image_percent",
    "published_pixel_percent",
    "published_source",
)


@dataclass(frozen=True)
class MethodRow:
    """One method of a board.

    Attributes:
        method: its name.
        title: how the board calls it.
        results: what each finished seed measured.
        failures: why others did not finish.
    """

    method: str
    title: str
    results: Mapping[int, Mapping[str, Any]]
    failures: tuple[str, ...] = ()

    @property
    def failure(self) -> str:
        """Why there is no result at all; empty where there is one."""
        return "" if self.results else "; ".join(self.failures)

    def published(self, data_name: str, stratum: str = "") -> Published | None:
        """What is published for it, see :func:`flawmap_bench.boards.published.published_for`."""
        return published_for(data_name, self.method, is_recipe(self.method), stratum)


def write_peers_scoreboard(folder: Path, name: str, rows: Sequence[MethodRow], about: Mapping[str, str]) -> Path:
    """Write the files of a board, see :func:`flawmap_bench.boards.scoreboard.write_board`.

    Args:
        folder: exists already.
        name: of the data set.
        rows: in the order of the board; they may be unfinished.
        about: what a reader needs to repeat it.

    Returns:
        the path of scoreboard.md.
    """
    board = Board(
        title=f"Scoreboard: {name}",
        about=about,
        tables=[_main_table(rows, name), *(_stratum_table(rows, name, kind) for kind in _stratum_kinds(rows))],
        notes=_notes(rows, name),
        chart=time_chart(_points(rows), f"Image AUROC against training time: {name}"),
    )
    content = {"data": name, "rows": [_as_json(row, name) for row in rows]}
    return write_board(folder, board, content, [CSV_COLUMNS, *(line for row in rows for line in _csv_rows(row, name))])


def _main_table(rows: Sequence[MethodRow], name: str) -> BoardTable:
    """What was measured of each method on the whole test set, and what is published."""
    measures = (("image", "auroc"), ("pixel", "auroc"), ("pixel", "aupro_30"))
    best = _best([[_mean_estimate(row, *measure) for row in rows] for measure in measures], range(1, 4))
    lines = []
    for row, best_cells in zip(rows, best, strict=True):
        results = list(row.results.values())
        cells = (
            row.title,
            *(_with_interval(results, *measure) for measure in measures),
            _mean(results, "train_seconds", "{:.0f}"),
            _mean(results, "seconds_per_image", "{:.2f}"),
            _mean(results, "peak_memory_mib", "{:.0f}"),
            _mean(results, "parameters", "{:.1f}", 1e-6),
            _published(row.published(name), "image"),
            _published(row.published(name), "pixel"),
        )
        lines.append(BoardLine(cells, is_recipe(row.method), best_cells, row.failure))
    return BoardTable(name, COLUMNS, tuple(lines))


def _stratum_table(rows: Sequence[MethodRow], name: str, kind: str) -> BoardTable:
    """AUROC within each stratum of one kind (each sex, each view), side by side."""
    columns, cells = ["method"], [[row.title for row in rows]]
    values: dict[int, list[float | None]] = {}  # by the index of the column
    for stratum in (stratum for stratum in _strata(rows) if stratum.startswith(f"{kind}=")):
        published = [row.published(name, stratum) for row in rows]
        by_stratum = [[result.get("by_stratum", {}) for result in row.results.values()] for row in rows]
        results = [[strata[stratum] for strata in row_strata if stratum in strata] for row_strata in by_stratum]
        counts = next(stratum_results[0] for stratum_results in results if stratum_results)
        for level, count in (("image", counts["n"]), ("pixel", counts["n_pixel_images"])):
            summaries = [measured(_values(stratum_results, f"{level}_auroc")) for stratum_results in results]
            if any(summaries):
                values[len(columns)] = [None if summary is None else summary.mean for summary in summaries]
                columns.append(f"{stratum}: {level} AUROC of {count} images, measured")
                cells.append([percent(summary).removesuffix(" (1 seed)") for summary in summaries])
            if any(getattr(number, level, None) is not None for number in published):
                columns.append(f"{stratum}: {level} AUROC, {PUBLISHED_MARK}")
                cells.append([_published(number, level) for number in published])
    best = _best(list(values.values()), values)
    lines = (
        BoardLine(row_cells, is_recipe(row.method), best_cells, row.failure)
        for row, row_cells, best_cells in zip(rows, zip(*cells, strict=True), best, strict=True)
    )
    return BoardTable(f"{name} by {kind}", tuple(columns), tuple(lines))


def _mean_estimate(row: MethodRow, level: str, measure: str) -> float | None:
    """Over seeds; None without any."""
    values = [result.get(level, {}).get(measure, {}).get("value") for result in row.results.values()]
    summary = measured([value for value in values if value is not None])
    return None if summary is None else summary.mean


def _best(columns: Sequence[Sequence[float | None]], cells: Iterable[int]) -> list[frozenset[int]]:
    """For each row, the indices of its cells that hold the highest value of their column, as it is shown.

    Args:
        columns: values in [0, 1] of all rows, for each measured column.
        cells: which cell of a row each of these columns is.
    """
    best: list[set[int]] = [set() for _ in columns[0]] if columns else []
    for values, cell in zip(columns, cells, strict=True):
        shown = [None if value is None else round(1000 * value) for value in values]
        highest = max((value for value in shown if value is not None), default=None)
        for row, value in zip(best, shown, strict=True):
            if value is not None and value == highest:
                row.add(cell)
    return [frozenset(row) for row in best]


def _with_interval(results: Sequence[Mapping[str, Any]], level: str, measure: str) -> str:
    """One seed: the value and its interval over images; several: mean ± standard error over seeds."""
    estimates = [result.get(level, {}).get(measure, {}) for result in results]
    estimates = [estimate for estimate in estimates if estimate.get("value") is not None]
    if len(estimates) == 1:
        value, low, high = (estimates[0][name] for name in ("value", "low", "high"))
        interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
        return f"{100 * value:.1f}{interval}"
    return percent(measured([estimate["value"] for estimate in estimates]))


def _mean(results: Sequence[Mapping[str, Any]], key: str, form: str, factor: float = 1.0) -> str:
    summary = measured([factor * value for value in _values(results, key)])
    return "–" if summary is None else form.format(summary.mean)


def _values(results: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [float(result[key]) for result in results if result.get(key) is not None]


def _published(published: Published | None, level: str) -> str:
    return number_or_dash(getattr(published, level, None))


def _strata(rows: Sequence[MethodRow]) -> list[str]:
    return sorted(
        {stratum for row in rows for result in row.results.values() for stratum in result.get("by_stratum", {})}
    )


def _stratum_kinds(rows: Sequence[MethodRow]) -> list[str]:
    return sorted({stratum.partition("=")[0] for stratum in _strata(rows)})


def _notes(rows: Sequence[MethodRow], name: str) -> list[str]:
    """One line per method that has a note or failed, and the sources of published numbers."""
    notes, sources = [], {}
    for row in rows:
        texts = list(dict.fromkeys(result["note"] for result in row.results.values() if result.get("note")))
        texts += [f"failed, {failure}" for failure in row.failures]
        notes += [f"{row.title}: {' | '.join(texts)}"] if texts else []
        for stratum in ("", *_strata(rows)):
            published = row.published(name, stratum)
            if published is not None:
                sources[f"Published, {row.title}: {published.source}"] = None
    return notes + list(sources)


def _points(rows: Sequence[MethodRow]) -> list[TimePoint]:
    points = []
    for row in rows:
        image = _mean_estimate(row, "image", "auroc")
        seconds = measured(_values(list(row.results.values()), "train_seconds"))
        if image is not None and seconds is not None:
            points.append(TimePoint(row.title, seconds.mean, image, is_recipe(row.method)))
    return points


def _as_json(row: MethodRow, name: str) -> dict[str, Any]:
    published = {
        stratum or "all": {"image": number.image, "pixel": number.pixel, "source": number.source}
        for stratum in ("", *_strata([row]))
        if (number := row.published(name, stratum)) is not None
    }
    results = {str(seed): dict(result) for seed, result in row.results.items()}
    for result in results.values():
        for scores in ("image_scores", "good_scores"):
            result.pop(scores, None)  # they stay in the run's own result.json
    return {
        "method": row.method,
        "title": row.title,
        "measured": results,
        "published": published,
        "failures": list(row.failures),
    }


def _csv_rows(row: MethodRow, name: str) -> list[list[Any]]:
    published = row.published(name) or Published()
    rows = []
    for seed, result in sorted(row.results.items()):
        image, pixel = result["image"]["auroc"], result.get("pixel", {}).get("auroc", {})
        values = [estimate.get(key) for estimate in (image, pixel) for key in ("value", "low", "high")]
        values.append(result.get("pixel", {}).get("aupro_30", {}).get("value"))
        values += [result[key] for key in ("train_seconds", "seconds_per_image", "peak_memory_mib", "parameters")]
        sources = [published.image, published.pixel, published.source]
        rows.append([row.method, row.title, seed, *values, result["note"], *sources])
    return rows
