"""What ``flawmap evaluate`` does: score a run on labelled data, and keep the result and a report in the run."""

import secrets
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from flawmap.data.checks import check_test_data, refuse_unwritable_names
from flawmap.data.groups import refuse_unmatched
from flawmap.data.left_out import refuse_left_out
from flawmap.data.open_data import Location, open_test_data
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.compute import DeviceName
from flawmap.errors import UserError
from flawmap.evaluate.evaluate import evaluate
from flawmap.evaluate.report_inputs import keep_attention
from flawmap.recipe.files import with_data_overrides
from flawmap.report.html import write_report
from flawmap.runs.evaluation import Evaluation
from flawmap.runs.manifest import read_used_images
from flawmap.runs.model_folder import model_folder, refresh_card
from flawmap.runs.result_folders import free_path, put_in_place
from flawmap.runs.run_folder import RunFolder

MIN_EVALUATION_SIZE_PX, MAX_EVALUATION_SIZE_PX = 16, 4096


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

    Raises:
        UserError: no model, unusable data, test images that training has seen, or results that cannot be written.
    """
    size = evaluation_size_px
    if size is not None and not MIN_EVALUATION_SIZE_PX <= size <= MAX_EVALUATION_SIZE_PX:
        raise UserError(
            f"the evaluation size is {size}, must be {MIN_EVALUATION_SIZE_PX} to {MAX_EVALUATION_SIZE_PX} px",
            "--evaluation-size",
            "for example 256; leave it out for the original resolution",
        )
    detector = AnomalyDetector.from_pretrained(path, device)
    run = RunFolder(path)
    # held-out images have set the threshold, so they cannot be test images either
    rows = read_used_images(RunFolder(model_folder(path).parent).manifest)
    known = {sha256: row.key for row in rows for sha256 in row.hashes}
    known_groups = {row.group: row.key for row in rows if row.group}
    settings = with_data_overrides(detector.recipe.data, overrides)
    opened = open_test_data(location, settings)
    if strict:
        refuse_left_out(opened.left_out, str(opened.root))
    refuse_unmatched(opened.samples, settings.group_by, str(opened.root))
    data = check_test_data(opened, skip_unreadable, known, known_groups)
    refuse_unwritable_names(name for sample in data.samples for name in (sample.key, str(sample.path.absolute())))
    score = partial(evaluate, detector, data, command=command, progress=progress, evaluation_size_px=size)
    if output is not None:
        return _keep(score, free_path(output))
    if not run.model.is_dir():
        return score()
    evaluation = _keep(score, run.evaluation)
    keep_attention(run, detector)
    refresh_card(path)
    write_report(path)
    return evaluation


def _keep(score: Callable[..., Evaluation], final: Path) -> Evaluation:
    """Score into a folder of a random name, so that two evaluations at once never share one, then put it in place."""
    unfinished = final.with_name(f"{final.name}-unfinished-{secrets.token_hex(4)}")
    unfinished.mkdir(parents=True)
    try:
        evaluation = score(folder=unfinished)
    except BaseException:  # the earlier results stay where they are
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    put_in_place(unfinished, final)
    return evaluation
