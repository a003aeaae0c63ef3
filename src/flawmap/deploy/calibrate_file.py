"""What ``flawmap calibrate parts.onnx`` does: a threshold beside an exported file, without torch for ONNX files."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import flawmap
from flawmap import advice
from flawmap.data.open_data import Location, absolute_locations
from flawmap.data.sample import TrainingData
from flawmap.deploy.good_scores import (
    GoodImages,
    Recalibration,
    change_of,
    drift_of,
    good_scores,
    manifest_of,
)
from flawmap.deploy.runtime import ExportedModel, load_as_exported
from flawmap.detect.calibration import calibrate, refuse_bad_rate
from flawmap.detect.detection import APPEARANCE_DISTANCE, NotScoredError
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError
from flawmap.recipe.settings import CalibrationSettings
from flawmap.reproducibility import atomic_write_bytes
from flawmap.runs.calibration import Calibration
from flawmap.runs.cameras import refuse_bad_name
from flawmap.runs.result_folders import exclusive
from flawmap.runs.sidecar import (
    FORMAT,
    Sidecar,
    decoded_sidecar,
    read_sidecar,
    refuse_other_model,
    sidecar_bytes,
    sidecar_path,
)
from flawmap.runs.threshold_names import camera_in, whose
from flawmap.runs.versions import (
    CALIBRATE,
    FORMER,
    UNDO,
    Change,
    Version,
    folder_of,
    former_content,
    read_history,
    write_version,
)


def calibrate_file(
    path: Path,
    images: Location,
    false_alarm_rate: float | None = None,
    output: Path | None = None,
    skip_unreadable: bool = False,
    strict: bool = False,
    camera: str | None = None,
    command: str = "",
) -> Recalibration:
    """Set the threshold of an exported file, or of one of its cameras, beside it; the former one is kept as a version.

    An exported file does not know which images it was trained from. Beside its run, ``data_manifest.csv`` says so, and
    images that training has seen are refused; elsewhere the caller has to see to it.

    Args:
        path: of the exported file.
        images: where good images are that training has not seen, or the reviews.csv of ``flawmap serve``.
        false_alarm_rate: wanted share of good images called anomalous, in (0, 1); None: as before, or 1 %.
        output: write the threshold to this file instead, which must be new.
        skip_unreadable: leave out files that cannot be decoded.
        strict: refuse folders with anything in them that is not read.
        camera: or product whose threshold is set, see :mod:`flawmap.runs.threshold_names`; None: the default one.
        command: that repeats this, for the record.

    Raises:
        UserError: as :func:`flawmap.deploy.load` and :func:`flawmap.deploy.good_scores.good_scores`; a rate outside
            (0, 1), a bad name of a camera, the threshold of another model lies there, ``output`` is taken, or another
            process changes the same threshold.
    """
    if false_alarm_rate is not None:
        refuse_bad_rate(false_alarm_rate)
    if output is not None and output.exists():
        raise UserError("this file already exists", str(output), "choose another --output, or move the file away")
    model = load_as_exported(path)
    facts = model.facts
    if camera is not None:
        refuse_bad_name(camera, facts.cameras)
    with exclusive(path) if output is None else nullcontext():
        former = _former(path, facts, camera)
        before = former or facts.calibration
        rate = false_alarm_rate or (before or CalibrationSettings()).false_alarm_rate
        manifest = manifest_of(path, facts)
        asked = GoodImages(images, rate, None, skip_unreadable, strict)
        scores = good_scores(asked, facts.model_id, partial(_calibrated, model, camera_in(camera)), manifest, before)
        drift, version = drift_of(before, scores.calibration, "former" if former else "default"), None
        of_model = facts.weights_sha256, facts.precision, camera
        content = sidecar_bytes(Sidecar(FORMAT, *of_model, scores.calibration, flawmap.__version__))
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(output, content)
        else:
            change = replace(
                change_of(CALIBRATE, command, camera, scores.calibration, former),
                locations=tuple(absolute_locations(images)),
                n_images=len(scores.images),
                drift=drift.text if drift else None,
            )
            version = _put_in_force(path, change, content, scores.images)
    return Recalibration(scores.calibration, former, drift, version, None, scores.n_duplicates, scores.left_out)


def undo_file_calibration(path: Path, camera: str | None = None, command: str = "") -> Recalibration:
    """Take back the last calibration of an exported file, or of one camera, that has not been taken back yet.

    Before the first one, the threshold in the exported file is in force. Taking back is a version, too.

    Args:
        path: of the exported file.
        camera: whose threshold is meant; None stands for the default one.
        command: that repeats this, for the record.

    Raises:
        UserError: no exported file, nothing to take back, the former threshold is damaged, or another process changes
            the same threshold.
    """
    facts = load_as_exported(path).facts
    with exclusive(path):
        former, in_force = _former(path, facts, camera), read_history(path).in_force(camera)
        if not in_force:
            of = "the default threshold" if camera is None else f"the threshold of {whose(camera)}"
            remedy = advice.command("flawmap", "calibrate", path, "--versions")
            raise UserError(f"no change of {of} is recorded that could be taken back", str(path), remedy)
        undone = in_force[-1]
        content = former_content(path, undone, sidecar_path(path, camera).name)
        restored = _exported(facts, camera)
        if content is not None:
            kept = folder_of(path, undone) / FORMER / sidecar_path(path, camera).name
            restored = read_sidecar(kept, facts.weights_sha256, facts.precision, camera, path)
        change = replace(change_of(UNDO, command, camera, restored, former), undoes=undone.number)
        version = _put_in_force(path, change, content, ())
    return Recalibration(restored, former, version=version, undone=undone)


def _calibrated(model: ExportedModel, camera: str | None, images: TrainingData, false_alarm_rate: float) -> Calibration:
    """The thresholds from what the file gives good images, one at a time."""
    without_regions = model.with_facts(replace(model.facts, calibration=None))  # nobody looks at them
    scores, peaks, distances = [], [], []
    for image in images.images:
        try:
            found = without_regions.predict(image.path, camera or image.camera)
        except NotScoredError as error:
            raise error.at(image.path) from None
        scores.append(found.score)
        peaks.append(float(found.anomaly_map.max()))
        distances.append(found.scores.get(APPEARANCE_DISTANCE))
    groups = [image.group for image in images.images]
    return calibrate(scores, peaks, false_alarm_rate, groups, appearance_distances=distances)


def _exported(facts: ModelFacts, camera: str | None) -> Calibration | None:
    return facts.calibration if camera is None else facts.cameras.get(camera)


def _former(path: Path, facts: ModelFacts, camera: str | None) -> Calibration | None:
    """The thresholds in force; a damaged file of them is no reason not to set others.

    Raises:
        UserError: the file there belongs to another model, which would lose its threshold.
    """
    beside = sidecar_path(path, camera)
    if not beside.exists():
        return _exported(facts, camera)
    remedy = "move the file away, or choose another one with --output, for --threshold of detect and serve"
    try:
        sidecar = decoded_sidecar(beside, remedy)
    except UserError:
        return None
    refuse_other_model(sidecar, beside, facts.weights_sha256, facts.precision, remedy)
    return sidecar.calibration


def _put_in_force(path: Path, change: Change, content: bytes | None, images: Sequence[tuple[str, str]]) -> Version:
    """Record a change of a threshold, then make it."""
    beside = sidecar_path(path, change.camera)
    version = write_version(path, change, {beside.name: content}, images)
    if content is None:
        beside.unlink(missing_ok=True)
    else:
        atomic_write_bytes(beside, content)
    return version
