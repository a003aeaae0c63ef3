"""What ``flawmap calibrate`` does: set the threshold of a run from good images that it has not seen."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from flawmap import advice
from flawmap.data.open_data import Location, absolute_locations
from flawmap.data.sample import TrainingData
from flawmap.deploy.good_scores import GoodImages, Recalibration, change_of, drift_of, good_scores
from flawmap.detect.calibration import refuse_bad_rate
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.pretrained import load_pretrained
from flawmap.engine.compute import DeviceName
from flawmap.errors import UserError
from flawmap.runs.calibration import Calibration, calibration_bytes, calibration_from
from flawmap.runs.cameras import calibration_file, read_calibrations, refuse_bad_name
from flawmap.runs.model_folder import home_of, model_folder, read_model, refuse_taken, replace_calibration, run_around
from flawmap.runs.result_folders import exclusive
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.threshold_names import whose
from flawmap.runs.versions import (
    CALIBRATE,
    UNDO,
    Change,
    Version,
    folder_of,
    former_content,
    read_history,
    write_version,
)


def calibrate_run(
    path: Path,
    images: Location,
    false_alarm_rate: float | None = None,
    output: Path | None = None,
    skip_unreadable: bool = False,
    device: DeviceName = "auto",
    strict: bool = False,
    camera: str | None = None,
    command: str = "",
) -> Recalibration:
    """Set the threshold of a run, or of one camera of it; the former one is kept as a version.

    Args:
        path: of a run folder or a model folder.
        images: where good images are that training has not seen, or the reviews.csv of ``flawmap serve``.
        false_alarm_rate: wanted share of good images called anomalous, in (0, 1); None: as before, or the recipe's.
        output: write the recalibrated model to this folder instead.
        skip_unreadable: leave out files that cannot be decoded.
        device: where to compute.
        strict: refuse folders with anything in them that is not read.
        camera: or product whose threshold is set, see :mod:`flawmap.runs.threshold_names`; None: the default one.
        command: that repeats this, for the record.

    Raises:
        UserError: no model, unusable images or reviews, fewer than ``FEWEST_GOOD`` good ones, images that training has
            seen or whose group it has, a rate outside (0, 1), a bad name of a camera, a taken output folder, or another
            process changes the same model.
    """
    if false_alarm_rate is not None:
        refuse_bad_rate(false_alarm_rate)
    if output is not None:
        refuse_taken(output)
    read_model(path, with_thresholds=False)  # raises where there is none, before the folder is held
    folder = model_folder(path)
    with exclusive(_held(folder)) if output is None else nullcontext():
        # a damaged threshold is no reason not to set another one
        detector = _opened(folder, device, camera, skip_damaged=output is None)
        former, default = detector.calibration_, detector.calibrations_.default
        before = former or default
        rate = false_alarm_rate or (before or detector.recipe.calibration).false_alarm_rate
        rows, group_by = RunFolder(folder.parent).manifest, detector.recipe.data.group_by
        asked = GoodImages(images, rate, group_by, skip_unreadable, strict)
        scores = good_scores(asked, detector.facts("").model_id, partial(_calibrated, detector), rows, before)
        drift, version = drift_of(before, scores.calibration, "former" if former else "default"), None
        if output is not None:
            detector.calibration_ = scores.calibration
            detector.save_pretrained(output)
        else:
            change = change_of(CALIBRATE, command, camera, scores.calibration, former)
            change = replace(
                change,
                locations=tuple(absolute_locations(images)),
                n_images=len(scores.images),
                drift=drift.text if drift else None,
            )
            version = put_in_force(folder, change, calibration_bytes(scores.calibration), scores.images)
    return Recalibration(scores.calibration, former, drift, version, None, scores.n_duplicates, scores.left_out)


def _held(folder: Path) -> Path:
    """What is held while the thresholds of a model change: its run, or the folder itself where it is in none."""
    return home_of(folder) if run_around(folder) else folder


def _calibrated(detector: AnomalyDetector, images: TrainingData, false_alarm_rate: float) -> Calibration:
    detector.calibrate(images, false_alarm_rate)
    assert detector.calibration_ is not None
    return detector.calibration_


def _opened(folder: Path, device: DeviceName, camera: str | None, skip_damaged: bool) -> AnomalyDetector:
    """A detector that uses the thresholds of a camera, which may have none yet."""
    saved = load_pretrained(folder, with_thresholds=not skip_damaged)
    known = read_calibrations(folder, skip_damaged) if skip_damaged else saved.calibrations
    if camera is not None:
        refuse_bad_name(camera, known.cameras)
    detector = AnomalyDetector.from_saved(replace(saved, calibrations=known), device)
    detector.camera_ = camera
    return detector


def undo_calibration(path: Path, camera: str | None = None, command: str = "") -> Recalibration:
    """Take back the last calibration of a run, or of one camera of it, that has not been taken back yet.

    The threshold is again what it was before; taking back is a version, too. Called again, it goes one further back.

    Args:
        path: of a run folder or a model folder.
        camera: whose threshold is meant; None stands for the default one.
        command: that repeats this, for the record.

    Raises:
        UserError: no model, nothing to take back, the former threshold is damaged, or another process changes the same
            model.
    """
    read_model(path, with_thresholds=False)  # raises where there is none, before the folder is held
    folder, file = model_folder(path), calibration_file(camera)
    with exclusive(_held(folder)):
        known, in_force = read_calibrations(folder, skip_damaged=True), read_history(folder).in_force(camera)
        if not in_force:
            of = "the default threshold" if camera is None else f"the threshold of {whose(camera)}"
            remedy = advice.command("flawmap", "calibrate", path, "--versions")
            raise UserError(f"no change of {of} is recorded that could be taken back", str(path), remedy)
        undone = in_force[-1]
        content = former_content(folder, undone, file)
        restored = None if content is None else calibration_from(content, str(folder_of(folder, undone)))
        former = known.of(camera)
        change = replace(change_of(UNDO, command, camera, restored, former), undoes=undone.number)
        version = put_in_force(folder, change, content, ())
    return Recalibration(restored, former, version=version, undone=undone)


def put_in_force(folder: Path, change: Change, content: bytes | None, images: Sequence[tuple[str, str]]) -> Version:
    """Record a change of a threshold, then make it."""
    version = write_version(folder, change, {calibration_file(change.camera): content}, images)
    replace_calibration(folder, change.camera, content)
    return version
