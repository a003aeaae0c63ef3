"""The report: one HTML file with everything in it, for a mail attachment or a USB stick."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import NDArray

from flawmap.report import charts, tables
from flawmap.report.colour import ColourScale, colour_bar
from flawmap.report.instructive import Choice, most_instructive
from flawmap.report.pictures import SAMPLE_PX, data_uri, sample_pictures, tiles_of
from flawmap.report.run_files import RunFiles, map_scale_of, read_run
from flawmap.report.sheet import COLUMN_TITLES

_MAX_SAMPLES = 6


@dataclass(frozen=True)
class Picture:
    """One picture of the page: its address, what it shows for those who cannot see it, and its caption."""

    caption: str
    alt: str
    uri: str | None
    absence: str = ""


@dataclass(frozen=True)
class Case:
    """A test image with its pictures, and why it is shown."""

    choice: Choice
    remark: str
    pictures: tuple[Picture, ...]


def write_report(run: Path) -> Path:
    """Writes ``RUN/report.html`` from what the run folder holds, and says which parts are missing.

    The file loads nothing: styles, script and pictures are inside, and a content security policy forbids the
    rest. It appears at once or not at all. ``report.html#threshold=0.4`` opens with the slider at 0.4.

    Args:
        run: a run folder, evaluated or not.

    Returns:
        The path of the report.

    Raises:
        UserError: when the folder is no run, or one of its files is malformed.
    """
    files = read_run(run)
    path = files.run / "report.html"
    _write_at_once(path, render(files))
    return path


def page_template(name: str) -> Template:
    """A page in ``report/template``; text is escaped, and what is not given is an error."""
    environment = Environment(
        loader=PackageLoader("flawmap.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def render(files: RunFiles) -> str:
    """The report as text."""
    scale = map_scale_of(files.metrics) or map_scale_of(files.calibration)
    return page_template("report.html").render(
        name=files.run.name,
        files=files,
        verdict=tables.verdict_of(files),
        headline=tables.headline(files),
        simulated=tables.simulated(files.config),
        comparisons=_comparisons(files),
        kinds=tables.kinds(files),
        groups=tables.groups(files.metrics),
        scores=_score_chart(files),
        cases=_cases(files, scale),
        scale=scale,
        colour_bar=data_uri(colour_bar(256, 8), quality=95),
        sample_titles=list(COLUMN_TITLES.values()),
        samples=_samples(files),
        n_samples_left_out=max(0, len(files.samples) - _MAX_SAMPLES),
        curves=charts.curves_of(files.log),
        strips=_strips(files),
        calibration_rows=tables.calibration_rows(files.calibration),
        split_rows=[(split.replace("_", " "), tables.plural(n, "picture")) for split, n in files.splits.items()],
        skipped_rows=[(str(one.get("key")), str(one.get("reason"))) for one in files.metrics.get("skipped") or []],
        environment_rows=tables.flat(files.environment),
        provenance=tables.provenance(files.config),
        number=tables.number,
    )


def _comparisons(files: RunFiles) -> list[tuple[str, tables.Table]]:
    pairs = [
        ("Ways to score a picture", tables.image_scores(files.metrics)),
        ("One image size against all", tables.scales(files.metrics)),
    ]
    return [(title, table) for title, table in pairs if table.rows]


def _score_chart(files: RunFiles) -> dict[str, Any] | None:
    """The histogram and what its script needs; None without test scores or threshold."""
    threshold = files.threshold
    if not files.images or threshold is None:
        return None
    good = [image.score for image in files.images if not image.is_anomalous]
    anomalous = [image.score for image in files.images if image.is_anomalous]
    chart = charts.histogram(good, anomalous, threshold)
    data = {
        "good": sorted(good),
        "anomalous": sorted(anomalous),
        "threshold": threshold,
        "low": chart.axis.low,
        "high": chart.axis.high,
        "left": chart.axis.left,
        "right": chart.axis.right,
    }
    return {
        "chart": chart,
        "data": data,
        "n_missed": sum(score <= threshold for score in anomalous),
        "n_false_alarms": sum(score > threshold for score in good),
    }


def _strips(files: RunFiles) -> dict[str, Any] | None:
    """Held-out scores beside those of the test images, on one axis; None without held-out scores."""
    held_out = [float(score) for score in files.calibration.get("held_out_scores") or []]
    threshold = files.threshold
    if not held_out or threshold is None:
        return None
    good = [image.score for image in files.images if not image.is_anomalous]
    anomalous = [image.score for image in files.images if image.is_anomalous]
    axis = charts.axis_of([*held_out, *good, *anomalous], threshold)
    rows = [charts.strip("held-out good", held_out, axis)]
    rows += [charts.strip("test, good", good, axis)] if good else []
    rows += [charts.strip("test, anomalous", anomalous, axis, is_anomalous=True)] if anomalous else []
    return {"axis": axis, "rows": rows, "threshold_x": axis.at(threshold)}


def _cases(files: RunFiles, scale: ColourScale | None) -> list[Case]:
    threshold = files.threshold
    if threshold is None:
        return []
    ends = files.metrics.get("map_scale") or {"low": 0.0, "high": 1.0}
    map_ends = (float(ends["low"]), float(ends["high"]))
    return [_case(choice, map_ends, scale) for choice in most_instructive(files.images, threshold)]


def _case(choice: Choice, map_ends: tuple[float, float], scale: ColourScale | None) -> Case:
    image = choice.image
    tiles = tiles_of(image, map_ends, scale)
    remark = "" if tiles.image is not None else f"The picture is no longer at {image.path}; its map alone is shown."
    no_truth = "no ground truth for this picture" if image.is_anomalous else "a good part: nothing to outline"
    no_picture = "the original picture is gone"
    shown = (
        ("image", f"picture {image.key}", tiles.image, no_picture),
        (
            "truth",
            f"{image.key} with the true defect outlined",
            tiles.truth,
            no_truth if tiles.image is not None else no_picture,
        ),
        ("map", f"anomaly map of {image.key}", tiles.map, "no map was kept"),
        (
            "overlay",
            f"anomaly map over {image.key}",
            tiles.overlay,
            no_picture if tiles.image is None else "no map was kept",
        ),
    )
    return Case(choice, remark, tuple(_picture(*one) for one in shown))


def _samples(files: RunFiles) -> list[list[Picture]]:
    scale = map_scale_of(files.calibration) or map_scale_of(files.metrics)
    rows = []
    for row in files.samples[:_MAX_SAMPLES]:
        pictures = sample_pictures(row, scale, SAMPLE_PX)
        rows.append(
            [
                _picture(title, f"sample {row.number}: {title}", pictures.get(name), "missing")
                for name, title in COLUMN_TITLES.items()
            ]
        )
    return rows


def _picture(caption: str, alt: str, image: NDArray[np.uint8] | None, absence: str) -> Picture:
    return Picture(caption, alt, None if image is None else data_uri(image), absence)


def _write_at_once(path: Path, text: str) -> None:
    """Writes beside the target first, so that no reader ever meets half a report."""
    handle, name = tempfile.mkstemp(prefix=".report-", suffix=".html", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(name, 0o644)  # mkstemp makes it readable by its owner alone
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
