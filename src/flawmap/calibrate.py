"""What ``flawmap calibrate`` does: set the threshold of a run from good images that it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flawmap.data.checks import CheckedData, check_good_images
from flawmap.data.left_out import refuse_left_out
from flawmap.data.open_data import Location, load_images, locations_of
from flawmap.data.sample import LeftOut
from flawmap.deploy.reviews import Review, is_review_file, read_reviews
from flawmap.detect.calibration import calibrate, refuse_bad_rate
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.compute import DeviceName
from flawmap.errors import UserError
from flawmap.metrics.score_drift import Drift, score_drift
from flawmap.runs.calibration import Calibration
from flawmap.runs.manifest import read_manifest
from flawmap.runs.model_folder import model_folder, refuse_taken, replace_calibration
from flawmap.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Recalibration:
    """A new calibration beside the former one.

    Attributes:
        calibration: the new one.
        former: None where there was none.
        drift: the new images' scores against those of the former calibration; None without one.
        n_duplicates: images that were left out because their pixels equal another one's.
        left_out: what lies beside the images.
    """

    calibration: Calibration
    former: Calibration | None
    drift: Drift | None
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
) -> Recalibration:
    """Calibrate; the former calibration is kept beside the new one.

    Args:
        path: of a run folder or a model folder.
        images: where good images are that training has not seen, or the reviews.csv of ``flawmap serve``.
        false_alarm_rate: wanted share of good images called anomalous, in (0, 1); None: as before, or the recipe's.
        output: write the recalibrated model to this folder instead.
        skip_unreadable: leave out files that cannot be decoded.
        device: where to compute.
        strict: refuse folders with anything in them that is not read.

    Raises:
        UserError: no model, unusable images or reviews, images that training has seen, a rate outside (0, 1), or a
            taken output folder.
    """
    if false_alarm_rate is not None:
        refuse_bad_rate(false_alarm_rate)
    if output is not None:
        refuse_taken(output)
    folder = model_folder(path)
    run = RunFolder(folder.parent)
    detector = AnomalyDetector.from_pretrained(folder, device)
    former, n_duplicates, left_out = detector.calibration_, 0, ()
    if false_alarm_rate is None:
        false_alarm_rate = former.false_alarm_rate if former else detector.recipe.calibration.false_alarm_rate
    trained_on = {sha256 for row in read_manifest(run.manifest) if row.split != "held_out" for sha256 in row.hashes}
    if (reviews_at := _reviews_among(locations_of(images))) is not None:
        reviews = _good_reviews(reviews_at, detector.facts("").model_id)
        _refuse_seen([review.image for review in reviews if review.sha256 in trained_on], run)
        scores, peaks = [review.score for review in reviews], [review.map_peak for review in reviews]
        detector.calibration_ = calibrate(scores, peaks, false_alarm_rate)
    else:
        checked = _checked(images, skip_unreadable, strict)
        left_out = checked.data.left_out
        _refuse_seen([fact.path for fact in checked.facts if trained_on & {fact.sha256, fact.pixels_sha256}], run)
        n_duplicates = checked.num_duplicates
        detector.calibrate(checked.data, false_alarm_rate)
    calibration = detector.calibration_
    assert calibration is not None
    if output is not None:
        detector.save_pretrained(output)
    else:
        replace_calibration(folder, calibration)
    drift = None
    if former is not None:
        before, now = np.array(former.held_out_scores), np.array(calibration.held_out_scores)
        drift = score_drift(before, former.threshold, former.false_alarm_rate, now, former="former")
    return Recalibration(calibration, former, drift, n_duplicates, left_out)


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


def _checked(images: Location, skip_unreadable: bool, strict: bool) -> CheckedData:
    data = load_images(images)
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
            "serve this run, or its fp32 export, and review again; or give a folder of good images",
        )
    good = [review for review in reviews if review.truth == "good"]
    if not good:
        raise UserError("no image was reviewed as good", str(path), "agree with an ok, or disagree with an anomaly")
    return good


def _refuse_seen(seen: Sequence[object], run: RunFolder) -> None:
    if seen:
        raise UserError(
            f"{len(seen)} of these images were trained on, first: {seen[0]}",
            str(run.manifest),
            "give good images that training has not seen; otherwise the threshold would be too low",
        )
