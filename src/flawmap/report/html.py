"""The report: one HTML file with everything in it, for a mail attachment or a USB stick."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.report import charts, estimates, tables
from flawmap.report.collapse import collapse_sentence, num_prototypes
from flawmap.report.colour import ColourScale, colour_bar
from flawmap.report.curves import STAGE_TITLES, RateCurve, rate_curves, training_curves
from flawmap.report.instructive import Choice, most_instructive
from flawmap.report.published import compared_with_published
from flawmap.report.recipe_diff import recipe_diff
from flawmap.report.run_files import RunFiles, map_scale_of, read_run
from flawmap.report.templates import page_template
from flawmap.report.thumbnails import SAMPLE_PX, data_uri, sample_images, tiles_of
from flawmap.report.training_words import no_curves_sentence, sample_columns, samples_sentence
from flawmap.reproducibility import atomic_write_text

_MAX_SAMPLES = 6


@dataclass(frozen=True)
class Picture:
    """One picture of the page: its address, what it shows for those who cannot see it, its caption and size in px."""

    caption: str
    alt: str
    uri: str | None
    absence: str = ""
    width: int = 0
    height: int = 0


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
    atomic_write_text(path, render(files))
    return path


def render(files: RunFiles) -> str:
    """The report as text."""
    scale = map_scale_of(files.metrics) or map_scale_of(files.calibration)
    cases = _cases(files, scale)
    return page_template("report.html").render(
        name=files.run.name,
        files=files,
        scale=scale,
        cases=cases,
        has_truth=any(image.truth_file for image in files.images),
        lacks_attention=any(case.choice.image.attention_file is None for case in cases),
        colour_bar=data_uri(colour_bar(256, 8), quality=95),
        sample_titles=list(sample_columns(files.recipe).values()),
        samples_sentence=samples_sentence(files.recipe),
        samples=_samples(files),
        sample_scale=_sample_scale(files),
        why_no_threshold=_why_no_threshold(files),
        why_no_pixels=estimates.why_no_pixels(files),
        n_samples_left_out=max(0, len(files.samples) - _MAX_SAMPLES),
        number=tables.number,
        **_results(files),
        **_training(files),
    )


def _results(files: RunFiles) -> dict[str, Any]:
    """What the evaluation says."""
    rates = rate_curves(files)
    return {
        "verdict": tables.verdict_of(files),
        "headline": estimates.without_empty_columns(estimates.headline(files)),
        "intervals": {level: estimates.interval_of(files.metrics, level) for level in ("image", "pixel")},
        "headline_notes": estimates.headline_notes(files.metrics),
        "has_estimates": estimates.has_estimates(files.metrics),
        "published": compared_with_published(files.metrics),
        "rates": [charts.rate_chart(curve) for curve in rates.values()],
        "lacks_pixel_curves": _why_no_pixel_curves(files, rates),
        "comparisons": _comparisons(files),
        "kinds": estimates.without_empty_columns(estimates.kinds(files)),
        "sizes": estimates.without_empty_columns(estimates.sizes(files.metrics)),
        "groups": estimates.without_empty_columns(estimates.groups(files.metrics)),
        "scores": charts.score_chart(files.images, files.threshold),
        "strips": _strips(files),
        "skipped_rows": [(str(one.get("key")), str(one.get("reason"))) for one in files.metrics.get("skipped") or []],
    }


def _why_no_pixel_curves(files: RunFiles, rates: Mapping[str, RateCurve]) -> str:
    if "roc_pixels" in rates:
        return ""
    if files.metrics.get("pixel_auroc") is None:
        return f"There are no pixel curves: {estimates.why_no_pixels(files)}."
    return "There are no pixel curves: this evaluation is of an older version. Evaluate again."


def _training(files: RunFiles) -> dict[str, Any]:
    """How the model came to be."""
    k = num_prototypes(files.recipe)
    curves = training_curves(files.log, None if k is None else math.log(k))
    commands = [files.environment.get("command"), files.metrics.get("command")]
    return {
        "identity": tables.identity(files),
        "simulated": tables.simulated(files.config),
        "curves": {stage: [charts.curve_chart(curve) for curve in of_stage] for stage, of_stage in curves.items()},
        "stage_titles": STAGE_TITLES,
        "no_curves": no_curves_sentence(files.recipe),
        "collapse": collapse_sentence(files.log, k),
        "calibration_rows": tables.calibration_rows(files.calibration),
        "data_rows": tables.data_rows(files),
        "commands": [command for command in commands if command],
        "diff": recipe_diff(files),
        "provenance": tables.provenance(files.config),
        "environment_rows": tables.flat(files.environment),
    }


def _comparisons(files: RunFiles) -> list[tuple[str, tables.Table]]:
    pairs = [
        ("Ways to score a picture", tables.image_scores(files.metrics)),
        ("One image size against all", estimates.without_empty_columns(tables.scales(files.metrics))),
    ]
    return [(title, table) for title, table in pairs if table.rows]


def _strips(files: RunFiles) -> dict[str, Any] | None:
    """Held-out scores beside those of the test images, on one axis; None without held-out scores."""
    held_out = [float(score) for score in files.calibration.get("held_out_scores") or []]
    if not held_out or "threshold" not in files.calibration:
        return None
    threshold = float(files.calibration["threshold"])  # that of these scores, which may be newer than the evaluation's
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
    has_truth = any(image.truth_file for image in files.images)
    return [_case(choice, map_ends, scale, has_truth) for choice in most_instructive(files.images, threshold)]


def _case(choice: Choice, map_ends: tuple[float, float], scale: ColourScale | None, has_truth: bool) -> Case:
    image = choice.image
    tiles = tiles_of(image, map_ends, scale)
    remark = "" if tiles.image is not None else f"The picture is no longer at {image.path}; what was kept is shown."
    no_truth = "no ground truth for this picture" if image.is_anomalous else "a good picture: nothing to outline"
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
        (
            "attention",
            f"where the encoder looks in {image.key}",
            tiles.attention,
            "attention was not kept",
        ),
    )
    return Case(choice, remark, tuple(_picture(*one) for one in shown if has_truth or one[0] != "truth"))


def _sample_scale(files: RunFiles) -> ColourScale | None:
    """Of the model as it is now; the test images have that of their evaluation."""
    return map_scale_of(files.calibration) or map_scale_of(files.metrics)


def _why_no_threshold(files: RunFiles) -> str:
    if not files.is_evaluated:
        return "No test pictures have been scored yet."
    if files.is_calibrated_since:
        return "This needs a threshold, and the model has had one only since this evaluation. Evaluate again."
    return "This needs a threshold, and none was calibrated."


def _samples(files: RunFiles) -> list[list[Picture]]:
    scale, rows = _sample_scale(files), []
    for row in files.samples[:_MAX_SAMPLES]:
        pictures = sample_images(row, scale, SAMPLE_PX)
        rows.append(
            [
                _picture(title, f"sample {row.number}: {title}", pictures.get(name), "missing")
                for name, title in sample_columns(files.recipe).items()
            ]
        )
    return rows


def _picture(caption: str, alt: str, image: NDArray[np.uint8] | None, absence: str) -> Picture:
    if image is None:
        return Picture(caption, alt, None, absence)
    return Picture(caption, alt, data_uri(image), absence, width=image.shape[1], height=image.shape[0])
