"""What ``flawmap calibrate`` does: set the threshold of a run from good images that it has not seen."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flawmap import advice
from flawmap.data.checks import CheckedData, check_good_images
from flawmap.data.groups import refuse_shared_groups
from flawmap.data.left_out import refuse_left_out, unreadable
from flawmap.data.open_data import Location, absolute_locations, locations_of, open_training_data
from flawmap.data.sample import LeftOut
from flawmap.deploy.reviews import Review, is_review_file, read_reviews
from flawmap.detect.calibration import calibrate, refuse_bad_rate
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.pretrained import load_pretrained
from flawmap.engine.compute import DeviceName
from flawmap.errors import UserError
from flawmap.metrics.score_drift import Drift, score_drift
from flawmap.recipe.settings import DataSettings
from flawmap.runs.calibration import Calibration, calibration_bytes, calibration_from
from flawmap.runs.cameras import calibration_file, read_calibrations, refuse_bad_name
from flawmap.runs.manifest import read_used_images
from flawmap.runs.model_folder import model_folder, read_model, refuse_taken, replace_calibration
from flawmap.runs.result_folders import exclusive
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.versions import (
    CALIBRATE,
    UNDO,
    Change,
    Version,
    folder_of,
    former_content,
    read_history,
    versions_folder,
    write_version,
)

FEWEST_GOOD = 5  # images of a threshold: with fewer, more than one good part in six may be called anomalous


@dataclass(frozen=True)
class Recalibration:
    """A new calibration beside the former one.

    Attributes:
        calibration: the new one; None where the first one was taken back.
        former: of the same camera; None where there was none.
        drift: the new images' scores against those of the former calibration, or of the default one for a new camera;
            None without one.
        version: of the change; None where the model was written to another folder.
        undone: the version that was taken back.
        n_duplicates: images that were left out because their pixels equal another one's.
        left_out: what lies beside the images.
    """

    calibration: Calibration | None
    former: Calibration | None
    drift: Drift | None = None
    version: Version | None = None
    undone: Version | None = None
    n_duplicates: int = 0
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class GoodScores:
    """What good images score.

    Attributes:
        calibration: from these scores.
        images: name and SHA-256 of each.
        n_duplicates: images that were left out because their pixels equal another one's.
        left_out: what lies beside the images.
    """

    calibration: Calibration
    images: tuple[tuple[str, str], ...]
    n_duplicates: int = 0
    left_out: tuple[LeftOut, ...] = ()


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
        camera: whose threshold is set; None stands for the default one.
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
    with exclusive(versions_folder(folder).parent) if output is None else nullcontext():
        # a damaged threshold is no reason not to set another one
        detector = _opened(folder, device, camera, skip_damaged=output is None)
        former, default = detector.calibration_, detector.calibrations_.default
        before = former or default
        rate = false_alarm_rate or (before or detector.recipe.calibration).false_alarm_rate
        scores = _good_scores(detector, RunFolder(folder.parent), images, rate, skip_unreadable, strict)
        drift, version = _drift(before, scores.calibration, "former" if former else "default"), None
        if output is not None:
            detector.calibration_ = scores.calibration
            detector.save_pretrained(output)
        else:
            change = _change(CALIBRATE, command, camera, scores.calibration, former)
            change = replace(
                change,
                locations=tuple(absolute_locations(images)),
                n_images=len(scores.images),
                drift=drift.text if drift else None,
            )
            version = put_in_force(folder, change, calibration_bytes(scores.calibration), scores.images)
    return Recalibration(scores.calibration, former, drift, version, None, scores.n_duplicates, scores.left_out)


def _opened(folder: Path, device: DeviceName, camera: str | None, skip_damaged: bool) -> AnomalyDetector:
    """A detector that uses the thresholds of a camera, which may have none yet."""
    saved = load_pretrained(folder, with_thresholds=not skip_damaged)
    known = read_calibrations(folder, skip_damaged) if skip_damaged else saved.calibrations
    if camera is not None:
        refuse_bad_name(camera, known.cameras)
    detector = AnomalyDetector.from_saved(replace(saved, calibrations=known), device)
    detector.camera_ = camera
    return detector


def _change(kind: str, command: str, camera: str | None, now: Calibration | None, former: Calibration | None) -> Change:
    return Change(
        kind=kind,
        command=command,
        camera=camera,
        threshold=now.threshold if now else None,
        former_threshold=former.threshold if former else None,
        false_alarm_rate=now.false_alarm_rate if now else None,
    )


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
    with exclusive(versions_folder(folder).parent):
        known, in_force = read_calibrations(folder, skip_damaged=True), read_history(folder).in_force(camera)
        if not in_force:
            whose = "the default threshold" if camera is None else f"the threshold of camera {camera!r}"
            remedy = advice.command("flawmap", "calibrate", path, "--versions")
            raise UserError(f"no change of {whose} is recorded that could be taken back", str(path), remedy)
        undone = in_force[-1]
        content = former_content(folder, undone, file)
        restored = None if content is None else calibration_from(content, str(folder_of(folder, undone)))
        former = known.of(camera)
        change = replace(_change(UNDO, command, camera, restored, former), undoes=undone.number)
        version = put_in_force(folder, change, content, ())
    return Recalibration(restored, former, version=version, undone=undone)


def put_in_force(folder: Path, change: Change, content: bytes | None, images: Sequence[tuple[str, str]]) -> Version:
    """Record a change of a threshold, then make it."""
    version = write_version(folder, change, {calibration_file(change.camera): content}, images)
    replace_calibration(folder, change.camera, content)
    return version


def _drift(before: Calibration | None, new: Calibration, name: str) -> Drift | None:
    if before is None:
        return None
    scores = np.array(before.held_out_scores), np.array(new.held_out_scores)
    n_groups = before.n_groups, new.n_groups
    return score_drift(scores[0], before.threshold, before.false_alarm_rate, scores[1], name, n_groups)


def _good_scores(
    detector: AnomalyDetector,
    run: RunFolder,
    images: Location,
    false_alarm_rate: float,
    skip_unreadable: bool,
    strict: bool,
) -> GoodScores:
    """Score good images, or take the scores that people have reviewed; the detector is calibrated with them."""
    trained_rows = [row for row in read_used_images(run.manifest) if row.split != "held_out"]
    trained_on = {sha256 for row in trained_rows for sha256 in row.hashes}
    if (reviews_at := _reviews_among(locations_of(images))) is not None:
        reviews = _good_reviews(reviews_at, detector.facts("").model_id)
        _refuse_few(len(reviews), "reviewed as good", reviews_at, "review more good parts on the page")
        _refuse_seen([review.image for review in reviews if review.sha256 in trained_on], run)
        scores, peaks = [review.score for review in reviews], [review.map_peak for review in reviews]
        used = tuple((review.image, review.sha256) for review in reviews)
        return GoodScores(calibrate(scores, peaks, false_alarm_rate), used)
    checked = _checked(images, detector.recipe.data.group_by, skip_unreadable, strict)
    _refuse_seen([fact.path for fact in checked.facts if trained_on & {fact.sha256, fact.pixels_sha256}], run)
    _refuse_few(len(checked.facts), "here", checked.data.root, "add good images that training has not seen")
    data, groups = checked.data, {row.group: row.key for row in trained_rows if row.group}
    refuse_shared_groups(data.images, groups, data.grouped_by, str(data.root), "the calibration")
    detector.calibrate(checked.data, false_alarm_rate)
    assert detector.calibration_ is not None
    used = tuple((fact.key, fact.sha256) for fact in checked.facts)
    left_out = checked.data.left_out + unreadable(checked.data.skipped)
    return GoodScores(detector.calibration_, used, len(checked.duplicates), left_out)


def _reviews_among(locations: Sequence[str | Path]) -> Path | None:
    """The file of reviews; None where images are given.

    Raises:
        UserError: both are given.
    """
    files = [Path(location) for location in locations if is_review_file(Path(location))]
    if files and len(locations) > 1:
        remedy = "calibrate from the reviews alone, or from folders of good images alone"
        raise UserError("reviews cannot be combined with other images", str(files[0]), remedy)
    return files[0] if files else None


def _checked(images: Location, group_by: str | None, skip_unreadable: bool, strict: bool) -> CheckedData:
    data = open_training_data(images, DataSettings(group_by=group_by))
    if strict:
        refuse_left_out(data.left_out, str(data.root))
    return check_good_images(data, skip_unreadable)


def _good_reviews(path: Path, model_id: str) -> list[Review]:
    """Reviews of images that people call good.

    Raises:
        UserError: there are none, or reviews are of another model.
    """
    reviews = read_reviews(path)
    if foreign := [review for review in reviews if review.model_id != model_id]:
        raise UserError(
            f"{len(foreign)} of {len(reviews)} reviews are of another model, first: {foreign[0].image}",
            str(path),
            "serve this run, or a file of `flawmap export RUN`, and review again; or give a folder of good images",
        )
    good = [review for review in reviews if review.truth == "good"]
    if not good:
        raise UserError("no image was reviewed as good", str(path), "agree with an ok, or disagree with an anomaly")
    return good


def _refuse_few(n_good: int, where: str, place: Path, remedy: str) -> None:
    """A threshold from one or two images would be what these happen to score."""
    if n_good < FEWEST_GOOD:
        images = "1 image is" if n_good == 1 else f"{n_good} images are"
        problem = f"{images} {where}, too few for a threshold: at least {FEWEST_GOOD} are needed"
        raise UserError(problem, str(place), remedy)


def _refuse_seen(seen: Sequence[object], run: RunFolder) -> None:
    if seen:
        raise UserError(
            f"{len(seen)} of these images were trained on, first: {seen[0]}",
            str(run.manifest),
            "give good images that training has not seen; otherwise the threshold would be too low",
        )
