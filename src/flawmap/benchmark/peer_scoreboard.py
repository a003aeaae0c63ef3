"""The board of methods as Markdown, CSV, JSON and HTML: what was measured, and apart from it what was published."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment

from flawmap.benchmark.methods import ANY_PEER, BASELINES, PEER_NAMES
from flawmap.benchmark.published import Published, published_for
from flawmap.benchmark.scoreboard import measured, percent
from flawmap.benchmark.time_chart import TimePoint, time_chart
from flawmap.reproducibility import atomic_write_text

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
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Scoreboard: {{ name }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c1c1c }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .7rem; text-align: right }
th { border-bottom: 2px solid #888; vertical-align: bottom } td { border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } .published { background: #f3f1ea; font-style: italic }
svg { max-width: 100%; height: auto } li { margin: .2rem 0 }
</style></head><body><h1>Scoreboard: {{ name }}</h1>
<ul>{% for key, value in about.items() %}<li>{{ key }}: {{ value }}</li>{% endfor %}</ul>
{% for title, lines in tables %}<h2>{{ title }}</h2><table><thead><tr>
{% for column in columns %}<th{% if loop.index > columns|length - 2 %} class="published"{% endif %}>
{{ column.replace('*', '') }}</th>{% endfor %}</tr></thead><tbody>
{% for line in lines %}<tr>{% for cell in line %}<td{% if loop.index > columns|length - 2 %} class="published"
{% endif %}>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody></table>{% endfor %}
{{ chart }}
<h2>Notes</h2><ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul></body></html>
"""


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
    tables = [(name, [_line(row, name, "") for row in rows])]
    for group in _groups(rows):
        tables.append((f"{name}, {group}", [_line(row, name, group) for row in rows]))
    notes = _notes(rows, name)
    chart = time_chart(_points(rows), f"Image AUROC against training time: {name}")
    content = {"about": dict(about), "data": name, "rows": [_as_json(row, name) for row in rows]}
    page = Environment(autoescape=True).from_string(_PAGE)
    html = page.render(name=name, about=about, tables=tables, columns=COLUMNS, notes=notes, chart=_Safe(chart))
    atomic_write_text(folder / "scoreboard.json", json.dumps(content, indent=2))
    atomic_write_text(folder / "scoreboard.csv", _as_csv(rows, name))
    atomic_write_text(folder / "scoreboard.svg", chart)
    atomic_write_text(folder / "scoreboard.html", html)
    atomic_write_text(folder / "scoreboard.md", _as_markdown(name, tables, notes, about))
    return folder / "scoreboard.md"


class _Safe(str):
    """Our own SVG: its texts are escaped where it is made."""

    def __html__(self) -> str:
        return self


def _line(row: MethodRow, name: str, group: str) -> list[str]:
    """The cells of one table row; of a group only what is known by group."""
    results = list(row.results.values())
    published = published_for(name, row.method, row.is_ours, group)
    if group:
        of_group = [result["groups"][group] for result in results if group in result.get("groups", {})]
        image, pixel = (_values(of_group, key) for key in ("image_auroc", "pixel_auroc"))
        counts = f" ({of_group[0]['n_pixel_images']} images)" if of_group and pixel else ""
        cells = [percent(measured(image)), percent(measured(pixel)) + counts, *("–",) * 5]
    else:
        cells = [
            _with_interval(results, "image", "auroc"),
            _with_interval(results, "pixel", "auroc"),
            _with_interval(results, "pixel", "aupro_30"),
            _mean(results, "train_seconds", "{:.0f}"),
            _mean(results, "seconds_per_image", "{:.2f}"),
            _mean(results, "peak_memory_mib", "{:.0f}"),
            _mean(results, "parameters", "{:.1f}", 1e-6),
        ]
    return [row.title, *cells, _published(published, "image"), _published(published, "pixel")]


def _with_interval(results: Sequence[Mapping[str, Any]], of: str, measure: str) -> str:
    """One seed: the value and its interval over images; several: mean ± standard error over seeds."""
    found = [result[of][measure] for result in results if result.get(of, {}).get(measure, {}).get("value") is not None]
    if len(found) == 1:
        return f"{100 * found[0]['value']:.1f} [{100 * found[0]['low']:.1f}, {100 * found[0]['high']:.1f}]"
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


def _as_markdown(name: str, tables: Sequence[tuple[str, list[list[str]]]], notes: list[str], about: Mapping) -> str:
    lines = [f"# Scoreboard: {name}", "", *(f"- {key}: {value}" for key, value in about.items())]
    for title, table in tables:
        lines += ["", f"## {title}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        lines += [f"| {' | '.join(line)} |" for line in table]
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
