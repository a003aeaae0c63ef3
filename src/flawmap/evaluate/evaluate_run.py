"""What ``flawmap evaluate`` does: score a run on labelled data, and keep the result and a report in the run."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from flawmap.data.open_data import Location
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.compute import DeviceName
from flawmap.evaluate.evaluable import AnalysesElsewhere
from flawmap.evaluate.evaluate import evaluate
from flawmap.evaluate.report_inputs import keep_attention
from flawmap.evaluate.test_images import TestImages, keep, refuse_evaluation_size
from flawmap.report.html import write_report
from flawmap.runs.evaluation import Evaluation
from flawmap.runs.manifest import read_used_images
from flawmap.runs.model_folder import model_folder, refresh_card
from flawmap.runs.result_folders import free_path
from flawmap.runs.run_folder import RunFolder


def evaluate_run(
    path: Path,
    location: Location,
    overrides: Sequence[str] = (),
    output: Path | None = None,
    skip_unreadable: bool = False,
    device: DeviceName = "auto",
    command: str = "",
    evaluation_size_px: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    strict: bool = False,
    elsewhere: AnalysesElsewhere | None = None,
) -> Evaluation:
    """Evaluate a run and write its report; an earlier evaluation is kept under another name.

    Args:
        path: of a run folder or a model folder.
        location: labelled data.
        overrides: of the run's own data settings, such as ``data.normal=OK``.
        output: folder for the results. None: a run folder takes them, and its report is written; those of a model
            folder that is not in a run are not kept.
        skip_unreadable: leave out files that cannot be decoded.
        device: where to compute.
        command: that repeats this, for the record.
        evaluation_size_px: see :func:`flawmap.evaluate.evaluate.evaluate`.
        progress: called after each image with (done, total).
        strict: refuse data with anything beside it that is not read.
        elsewhere: see :func:`flawmap.evaluate.evaluate.evaluate`.

    Raises:
        UserError: no model, unusable data, test images that training has seen, or results that cannot be written.
    """
    refuse_evaluation_size(evaluation_size_px)
    detector = AnomalyDetector.from_pretrained(path, device)
    run = RunFolder(path)
    # held-out images have set the threshold, so they cannot be test images either
    rows = read_used_images(RunFolder(model_folder(path).parent).manifest)
    asked = TestImages(location, overrides, skip_unreadable, strict)
    data = asked.checked(detector.recipe.data, rows)
    score = partial(
        evaluate,
        detector,
        data,
        command=command,
        progress=progress,
        evaluation_size_px=evaluation_size_px,
        elsewhere=elsewhere,
    )
    if output is not None:
        return keep(score, free_path(output))
    if not run.model.is_dir():
        return score()
    evaluation = keep(score, run.evaluation)
    keep_attention(run, detector)
    refresh_card(path)
    write_report(path)
    return evaluation
