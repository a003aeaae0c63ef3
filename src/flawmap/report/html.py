"""The report: one HTML file with everything in it, for a mail attachment or a USB stick."""

import math
from pathlib import Path
from typing import Any

from flawmap.data.left_out import from_records
from flawmap.data.left_out import lines as left_out_lines
from flawmap.data.remark_lines import remark_lines
from flawmap.report import charts, estimates, tables
from flawmap.report.curves import STAGE_TITLES, rate_curves, training_curves
from flawmap.report.instructive import Choice, most_instructive
from flawmap.report.published import compared_with_published
from flawmap.report.recipe_diff import recipe_diff
from flawmap.report.run_files import RunFiles, read_run
from flawmap.report.templates import page_template
from flawmap.report.thumbnails import SAMPLE_PX, Thumbnail, sample_images, tiles_of, unusual_images
from flawmap.report.training_words import (
    collapse_sentence,
    known_defects_sentences,
    no_curves_sentence,
    num_prototypes,
    sample_columns,
    samples_sentence,
)
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.evaluation import Evaluation
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.unusual import MOST_PICTURED, UnusualImage, list_file

_MAX_SAMPLES = 6


def write_report(run: Path) -> Path:
    """Write ``RUN/report.html`` from what the run folder holds; the page says which parts are missing.

    The page loads nothing: styles, script and images are inside, and a content security policy forbids everything
    else. It is written completely or not at all. ``report.html#threshold=0.4`` opens with the slider at 0.4.

    Args:
        run: a run folder, evaluated or not.

    Returns:
        the path of the report.

    Raises:
        UserError: the folder is not a run folder, or one of its files is damaged.
    """
    files = read_run(run)
    path = RunFolder(files.run).report
    text = render(files)
    atomic_write_text(path, text)
    return path


def render(files: RunFiles) -> str:
    """The report as text."""
    cases = _cases(files)
    return page_template("report.html").render(
        name=files.run.name,
        files=files,
        evaluation=files.evaluation,
        cases=cases,
        lacks_attention=any(choice.image.attention_file is None for choice, _ in cases),
        sample_titles=list(sample_columns(files.recipe).values()),
        samples_sentence=samples_sentence(files.recipe),
        samples=_samples(files),
        unusual=_unusual(files),
        unusual_words=files.unusual.sentence if files.unusual else "",
        list_of_unusual=list_file(RunFolder(files.run).unusual),
        why_no_pixels=estimates.why_no_pixels(files),
        number=tables.number,
        **_results(files),
        **_training(files),
    )


def _results(files: RunFiles) -> dict[str, Any]:
    """What the evaluation says."""
    evaluation = files.evaluation
    return {
        "verdict": tables.verdict_of(files),
        "headline": estimates.without_empty_columns(estimates.headline(files)),
        "headline_notes": estimates.headline_notes(evaluation),
        "published": compared_with_published(evaluation) if evaluation else None,
        "rates": [charts.rate_chart(curve) for curve in rate_curves(files).values()],
        "comparisons": {
            "Ways to score an image": tables.image_scores(evaluation),
            "One image size against all": estimates.without_empty_columns(tables.scales(evaluation)),
        }
        if evaluation
        else {},
        "kinds": estimates.without_empty_columns(estimates.kinds(files)),
        "sizes": estimates.without_empty_columns(estimates.sizes(evaluation)),
        "strata": estimates.without_empty_columns(estimates.strata(evaluation)),
        "scores": charts.score_chart(files),
        "strips": _strips(files),
        "left_out_lines": _left_out_lines(evaluation) if evaluation else [],
        "file_remarks": remark_lines(evaluation.remarks) if evaluation else [],
    }


def _left_out_lines(evaluation: Evaluation) -> list[str]:
    """Test files that could not be decoded, and what lay beside the images and was passed over."""
    passed_over = left_out_lines(from_records(evaluation.left_out), Path(evaluation.root))
    return [*(f"{file.key}: {file.reason}" for file in evaluation.skipped), *passed_over]


def _training(files: RunFiles) -> dict[str, Any]:
    """How the model came to be."""
    k = num_prototypes(files.recipe)
    curves = training_curves(files.log, None if k is None else math.log(k))
    return {
        "identity": tables.identity(files),
        "simulated": tables.simulated(files.config, files.calibration),
        "known_defects": known_defects_sentences(files.known_defects, bool(files.updates)),
        "curves": {
            STAGE_TITLES.get(stage, stage): [charts.curve_chart(curve) for curve in stage_curves]
            for stage, stage_curves in curves.items()
        },
        "no_curves": no_curves_sentence(files.recipe),
        "collapse": collapse_sentence(files.log, k),
        "data_rows": tables.data_rows(files),
        "commands": tables.commands(files),
        "environment_rows": tables.flat(files.environment),
        "diff": recipe_diff(files),
    }


def _strips(files: RunFiles) -> dict[str, Any] | None:
    """The scores that set the threshold beside those of test images, on one axis; None without a calibration."""
    if files.calibration is None:
        return None
    # the threshold of these scores, which may be newer than the evaluation's
    threshold, unseen = files.calibration.threshold, files.calibration.held_out_scores
    good, anomalous = files.scores(is_anomalous=False), files.scores(is_anomalous=True)
    axis = charts.axis_of([*unseen, *good, *anomalous], threshold)
    scores_by_title = {"good, not trained on": unseen, "test, good": good, "test, anomalous": anomalous}
    rows = [charts.strip(title, scores, axis) for title, scores in scores_by_title.items() if scores]
    return {"axis": axis, "rows": rows, "threshold_x": axis.at(threshold)}


def _cases(files: RunFiles) -> list[tuple[Choice, list[Thumbnail]]]:
    """The test images to show, and what is drawn of each."""
    if files.evaluation is None or files.threshold is None:
        return []
    cases = []
    for choice in most_instructive(files.images, files.threshold):
        image = choice.image
        tiles = tiles_of(image, files.evaluation.map_scale, files.test_scale, roi=files.roi_of(image))
        gone = "" if "image" in tiles else "the original image is gone"
        no_truth = "no ground truth for this image" if image.is_anomalous else "a good image: nothing to outline"
        texts = {
            "image": (f"image {image.key}", gone),
            "truth": (f"{image.key} with the true defect outlined", gone or no_truth),
            "map": (f"anomaly map of {image.key}", "no map was saved"),
            "overlay": (f"anomaly map over {image.key}", gone or "no map was saved"),
            "attention": (f"where the encoder looks in {image.key}", "attention was not saved"),
        }
        if not files.has_truth:
            del texts["truth"]
        cases.append((choice, [Thumbnail(name, alt, tiles.get(name), why) for name, (alt, why) in texts.items()]))
    return cases


def _unusual(files: RunFiles) -> list[tuple[UnusualImage, list[Thumbnail]]]:
    """The good images that look unusual, with picture and map."""
    if files.unusual is None:
        return []
    folder, ends, found = RunFolder(files.run).unusual, files.unusual.scoring.map_ends, []
    for number, image in enumerate(files.unusual.images[:MOST_PICTURED]):
        images = unusual_images(folder, number, ends, files.sample_scale, SAMPLE_PX)
        texts = {"image": f"good image {image.key}", "map": f"anomaly map of {image.key}"}
        found.append((image, [Thumbnail(name, alt, images.get(name), "missing") for name, alt in texts.items()]))
    return found


def _samples(files: RunFiles) -> list[list[Thumbnail]]:
    columns, rows = sample_columns(files.recipe), []
    for row in files.samples[:_MAX_SAMPLES]:
        images, place = sample_images(row, files.sample_scale, SAMPLE_PX), f"sample {row.number}"
        rows.append(
            [Thumbnail(title, f"{place}: {title}", images.get(name), "missing") for name, title in columns.items()]
        )
    return rows
