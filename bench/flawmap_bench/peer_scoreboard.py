"""The board of methods as Markdown, CSV, JSON and HTML: what was measured, and apart from it what was published."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawmap.reproducibility import atomic_write_text
from flawmap_bench.methods import ANY_PEER, BASELINES, PEER_NAMES
from flawmap_bench.peer_page import PUBLISHED_MARK, BoardLine, BoardTable, board_page
from flawmap_bench.published import Published, published_for
from flawmap_bench.scoreboard import measured, percent
from flawmap_bench.time_chart import TimePoint, time_chart

COLUMNS = (
    "method",
    "image AUROC, measured",
    "pixel AUROC, measured",
    "AUPRO 30 %, measured",
    "training, s",
    "per image, s",
    "peak memory, MiB",
    "numbers kept, millions",
    "image AUROC, *published*",
    "pixel AUROC, *published*",
)
_CSV_COLUMNS = (
    *("method", "title", "seed", "image_auroc", "image_low", "image_high", "pixel_auroc", "pixel_low", "pixel_high"),
    *("aupro_30", "train_seconds", "seconds_per_image", "peak_memory_mib", "parameters", "note"),
    *("published_image_percent", "published_pixel_percent", "published_source"),
)


@dataclass(frozen=True)
class MethodRow:
    """One method of a board.

    Attributes:
        method: its name.
        title: how the board calls it.
        results: what each finished seed measured.
        failures: why others did not.
    """

    method: str
    title: str
    results: Mapping[int, Mapping[str, Any]]
    failures: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether this is a flawmap recipe."""
        return self.method not in BASELINES and self.method not in PEER_NAMES and not self.method.startswith(ANY_PEER)


def write_peer_scoreboard(folder: Path, name: str, rows: Sequence[MethodRow], about: Mapping[str, str]) -> Path:
    """Write scoreboard.md, .csv, .json, .html and the chart scoreboard.svg, each in one step.

    Args:
        folder: exists already.
        name: of the data set.
        rows: in the order of the board; they may be unfinished.
        about: what a reader needs to repeat it.

    Returns:
        the path of scoreboard.md.
    """
    tables = [_main_table(rows, name), *(_group_table(rows, name, by) for by in _group_names(rows))]
    notes = _notes(rows, name)
    chart = time_chart(_points(rows), f"Image AUROC against training time: {name}")
    content = {"about": dict(about), "data": name, "rows": [_as_json(row, name) for row in rows]}
    html = board_page(name, tables, about, notes, chart)
    atomic_write_text(folder / "scoreboard.json", json.dumps(content, indent=2))
    atomic_write_text(folder / "scoreboard.csv", _as_csv(rows, name))
    atomic_write_text(folder / "scoreboard.svg", chart)
    atomic_write_text(folder / "scoreboard.html", html)
    atomic_write_text(folder / "scoreboard.md", _as_markdown(name, tables, notes, about))
    return folder / "scoreboard.md"


def _main_table(rows: Sequence[MethodRow], name: str) -> BoardTable:
    """What was measured of each method on the whole test set, and what is published."""
    measures = (("image", "auroc"), ("pixel", "auroc"), ("pixel", "aupro_30"))
    best = _best([[_mean_estimate(row, *measure) for row in rows] for measure in measures], range(1, 4))
    lines = []
    for row, of_row in zip(rows, best, strict=True):
        results = list(row.results.values())
        published = published_for(name, row.method, row.is_ours)
        cells = (
            row.title,
            *(_with_interval(results, *measure) for measure in measures),
            _mean(results, "train_seconds", "{:.0f}"),
            _mean(results, "seconds_per_image", "{:.2f}"),
            _mean(results, "peak_memory_mib", "{:.0f}"),
            _mean(results, "parameters", "{:.1f}", 1e-6),
            _published(published, "image"),
            _published(published, "pixel"),
        )
        lines.append(BoardLine(cells, row.is_ours, of_row, "" if results else "; ".join(row.failures)))
    return BoardTable(name, COLUMNS, tuple(lines))


def _group_table(rows: Sequence[MethodRow], name: str, by: str) -> BoardTable:
    """AUROC within each group of one kind (each sex, each view), side by side."""
    columns, cells = ["method"], [[row.title for row in rows]]
    values: dict[int, list[float | None]] = {}  # by the number of the column
    for group in (group for group in _groups(rows) if group.startswith(f"{by}=")):
        published = [published_for(name, row.method, row.is_ours, group) for row in rows]
        of_group = [[r["groups"][group] for r in row.results.values() if group in r.get("groups", {})] for row in rows]
        one = next(found[0] for found in of_group if found)
        for kind, count in (("image", one["n"]), ("pixel", one["n_pixel_images"])):
            found = [measured(_values(results, f"{kind}_auroc")) for results in of_group]
            if any(found):
                values[len(columns)] = [None if summary is None else summary.mean for summary in found]
                columns.append(f"{group}: {kind} AUROC of {count} images, measured")
                cells.append([percent(summary).removesuffix(" (1 seed)") for summary in found])
            if any(getattr(number, kind, None) is not None for number in published):
                columns.append(f"{group}: {kind} AUROC, {PUBLISHED_MARK}")
                cells.append([_published(number, kind) for number in published])
    best = _best(list(values.values()), values)
    lines = (
        BoardLine(of_row, row.is_ours, numbers, "" if row.results else "; ".join(row.failures))
        for row, of_row, numbers in zip(rows, zip(*cells, strict=True), best, strict=True)
    )
    return BoardTable(f"{name} by {by}", tuple(columns), tuple(lines))


def _mean_estimate(row: MethodRow, of: str, measure: str) -> float | None:
    """Over seeds; None without any."""
    found = [result.get(of, {}).get(measure, {}).get("value") for result in row.results.values()]
    summary = measured([value for value in found if value is not None])
    return None if summary is None else summary.mean


def _best(columns: Sequence[Sequence[float | None]], cells: Iterable[int]) -> list[frozenset[int]]:
    """For each row, the numbers of its cells that hold the highest value of their column, as it is shown.

    Args:
        columns: values in [0, 1] of all rows, for each measured column.
        cells: which cell of a row each of these columns is.
    """
    found: list[set[int]] = [set() for _ in columns[0]] if columns else []
    for values, cell in zip(columns, cells, strict=True):
        shown = [None if value is None else round(1000 * value) for value in values]
        highest = max((value for value in shown if value is not None), default=None)
        for row, value in zip(found, shown, strict=True):
            if value is not None and value == highest:
                row.add(cell)
    return [frozenset(row) for row in found]


def _with_interval(results: Sequence[Mapping[str, Any]], of: str, measure: str) -> str:
    """One seed: the value and its interval over images; several: mean ± standard error over seeds."""
    found = [result[of][measure] for result in results if result.get(of, {}).get(measure, {}).get("value") is not None]
    if len(found) == 1:
        value, low, high = (found[0][name] for name in ("value", "low", "high"))
        interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
        return f"{100 * value:.1f}{interval}"
    return percent(measured([estimate["value"] for estimate in found]))


def _mean(results: Sequence[Mapping[str, Any]], key: str, form: str, factor: float = 1.0) -> str:
    summary = measured([factor * value for value in _values(results, key)])
    return "–" if summary is None else form.format(summary.mean)


def _values(results: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [float(result[key]) for result in results if result.get(key) is not None]


def _published(published: Published | None, kind: str) -> str:
    value = getattr(published, kind) if published is not None else None
    return "–" if value is None else f"{value:.1f}"


def _groups(rows: Sequence[MethodRow]) -> list[str]:
    return sorted({group for row in rows for result in row.results.values() for group in result.get("groups", {})})


def _group_names(rows: Sequence[MethodRow]) -> list[str]:
    return sorted({group.partition("=")[0] for group in _groups(rows)})


def _notes(rows: Sequence[MethodRow], name: str) -> list[str]:
    """One line per method that has something to say, and the sources of published numbers."""
    notes, sources = [], {}
    for row in rows:
        said = list(dict.fromkeys(result["note"] for result in row.results.values() if result.get("note")))
        said += [f"failed, {failure}" for failure in row.failures]
        notes += [f"{row.title}: {' | '.join(said)}"] if said else []
        for group in ("", *_groups(rows)):
            published = published_for(name, row.method, row.is_ours, group)
            if published is not None:
                sources[f"Published, {row.title}: {published.source}"] = None
    return notes + list(sources)


def _points(rows: Sequence[MethodRow]) -> list[TimePoint]:
    points = []
    for row in rows:
        image = measured([r["image"]["auroc"]["value"] for r in row.results.values() if r["image"]["auroc"]["value"]])
        seconds = measured(_values(list(row.results.values()), "train_seconds"))
        if image is not None and seconds is not None:
            points.append(TimePoint(row.title, seconds.mean, image.mean, row.is_ours))
    return points


def _as_markdown(name: str, tables: Sequence[BoardTable], notes: list[str], about: Mapping) -> str:
    lines = [f"# Scoreboard: {name}", "", *(f"- {key}: {value}" for key, value in about.items())]
    for table in tables:
        lines += ["", f"## {table.title}", "", f"| {' | '.join(table.columns)} |", "|---" * len(table.columns) + "|"]
        for line in table.lines:
            cells = [f"**{cell}**" if number in line.best else cell for number, cell in enumerate(line.cells)]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "![Image AUROC against training time](scoreboard.svg)", "", "## Notes", ""]
    lines += [f"- {note}" for note in notes]
    return "\n".join(lines) + "\n"


def _as_json(row: MethodRow, name: str) -> dict[str, Any]:
    published = {
        group or "all": {"image": found.image, "pixel": found.pixel, "source": found.source}
        for group in ("", *_groups([row]))
        if (found := published_for(name, row.method, row.is_ours, group)) is not None
    }
    results = {str(seed): dict(result) for seed, result in row.results.items()}
    for result in results.values():
        result.pop("image_scores", None)  # they stay in the run's own result.json
    return {
        "method": row.method,
        "title": row.title,
        "measured": results,
        "published": published,
        "failures": list(row.failures),
    }


def _as_csv(rows: Sequence[MethodRow], name: str) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row in rows:
        published = published_for(name, row.method, row.is_ours)
        of_publication = [published.image, published.pixel, published.source] if published else ["", "", ""]
        for seed, result in sorted(row.results.items()):
            image, pixel = result["image"]["auroc"], result.get("pixel", {}).get("auroc", {})
            writer.writerow(
                [
                    *(row.method, row.title, seed),
                    *(image.get(key) for key in ("value", "low", "high")),
                    *(pixel.get(key) for key in ("value", "low", "high")),
                    result.get("pixel", {}).get("aupro_30", {}).get("value"),
                    *(result[k] for k in ("train_seconds", "seconds_per_image", "peak_memory_mib", "parameters")),
                    result["note"],
                    *of_publication,
                ]
            )
    return buffer.getvalue()
