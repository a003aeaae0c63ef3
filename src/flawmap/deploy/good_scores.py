"""What a threshold is set from: good images that training has not seen, or reviews of them. Needs no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flawmap.advice import install
from flawmap.data.checks import CheckedData, check_good_images
from flawmap.data.groups import grouped, refuse_shared_groups
from flawmap.data.left_out import refuse_left_out, unreadable
from flawmap.data.open_data import Location, locations_of, open_training_data
from flawmap.data.sample import LeftOut, TrainingData
from flawmap.deploy.reviews import Review, is_review_file, read_reviews
from flawmap.detect.calibration import calibrate
from flawmap.detect.model_facts import ModelFacts
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.metrics.score_drift import Drift, score_drift
from flawmap.recipe.settings import DataSettings
from flawmap.runs.calibration import Calibration
from flawmap.runs.manifest import read_used_images
from flawmap.runs.model_config import read_config
from flawmap.runs.run_folder import MODEL_CONFIG, RunFolder
from flawmap.runs.versions import Change, Version

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


@dataclass(frozen=True)
class GoodImages:
    """What a threshold shall be set from.

    Attributes:
        images: where they are, or the reviews.csv of ``flawmap serve``.
        false_alarm_rate: wanted share of good images called anomalous, in (0, 1).
        group_by: how training has found groups, see :mod:`flawmap.data.groups`. A group of training is refused by this
            name, and by that which the images' own list gives it.
        skip_unreadable: leave out files that cannot be decoded.
        strict: refuse folders with anything in them that is not read.
    """

    images: Location
    false_alarm_rate: float
    group_by: str | None = None
    skip_unreadable: bool = False
    strict: bool = False


def good_scores(
    asked: GoodImages,
    model_id: str,
    calibrated: Callable[[TrainingData, float], Calibration],
    manifest: Path | None,
    before: Calibration | None = None,
) -> GoodScores:
    """Score good images, or take the scores that people have reviewed.

    Args:
        asked: the images and the rate.
        model_id: whose reviews count.
        calibrated: scores the images and sets the thresholds for the rate.
        manifest: of the model's run, which says what training has seen; None where nobody knows.
        before: the thresholds until now. Reviews do not say how unlike good images an image looks: what these good
            images show stays.

    Raises:
        UserError: unusable images or reviews, fewer than ``FEWEST_GOOD`` good ones, or images that training has seen or
            whose group it has.
    """
    images, false_alarm_rate = asked.images, asked.false_alarm_rate
    trained_rows = [row for row in (read_used_images(manifest) if manifest else ()) if row.split != "held_out"]
    trained_on = {sha256 for row in trained_rows for sha256 in row.hashes}
    if (reviews_at := _reviews_among(locations_of(images))) is not None:
        reviews = _good_reviews(reviews_at, model_id)
        _refuse_few(len(reviews), "reviewed as good", reviews_at, "review more good parts on the page")
        _refuse_seen([review.image for review in reviews if review.sha256 in trained_on], manifest)
        scores, peaks = [review.score for review in reviews], [review.map_peak for review in reviews]
        used = tuple((review.image, review.sha256) for review in reviews)
        distances = before.appearance_distances if before else ()
        return GoodScores(calibrate(scores, peaks, false_alarm_rate, appearance_distances=distances), used)
    checked = _checked(images, asked.group_by, asked.skip_unreadable, asked.strict)
    _refuse_seen([fact.path for fact in checked.facts if trained_on & {fact.sha256, fact.pixels_sha256}], manifest)
    _refuse_few(len(checked.facts), "here", checked.data.root, "add good images that training has not seen")
    data, groups = checked.data, {row.group: row.key for row in trained_rows if row.group}
    as_trained = grouped(data.images, asked.group_by)
    for named, grouped_by in ((data.images, data.grouped_by), (as_trained, asked.group_by)):
        refuse_shared_groups(named, groups, grouped_by, str(data.root), "the calibration")
    used = tuple((fact.key, fact.sha256) for fact in checked.facts)
    left_out = checked.data.left_out + unreadable(checked.data.skipped)
    return GoodScores(calibrated(checked.data, false_alarm_rate), used, len(checked.duplicates), left_out)


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
    data = open_training_data(images, DataSettings())
    if data.grouped_by is None and group_by is not None:
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
        raise UserError(
            "no image was reviewed as good", str(path), "agree with an ok verdict, or disagree with an anomaly"
        )
    return good


def _refuse_few(n_good: int, where: str, place: Path, remedy: str) -> None:
    """A threshold from one or two images would be what these happen to score."""
    if n_good < FEWEST_GOOD:
        images = "1 image is" if n_good == 1 else f"{n_good} images are"
        problem = f"{images} {where}, too few for a threshold: at least {FEWEST_GOOD} are needed"
        raise UserError(problem, str(place), remedy)


def _refuse_seen(seen: Sequence[object], manifest: Path | None) -> None:
    if seen:
        raise UserError(
            f"{len(seen)} of these images were trained on, first: {seen[0]}",
            str(manifest),
            "give good images that training has not seen; otherwise the threshold would be too low",
        )


def drift_of(before: Calibration | None, new: Calibration, name: str) -> Drift | None:
    """How the new scores differ from those of the thresholds before; None where there were none, or without scipy."""
    if before is None:
        return None
    scores = np.array(before.held_out_scores), np.array(new.held_out_scores)
    n_groups = before.n_groups, new.n_groups
    try:
        return score_drift(scores[0], before.threshold, before.false_alarm_rate, scores[1], name, n_groups)
    except ImportError:  # scipy is not in the base installation, which calibrates an exported file
        say("note", f"not compared with the scores of the former calibration: {install('train')}")
        return None


def change_of(
    kind: str, command: str, camera: str | None, now: Calibration | None, former: Calibration | None
) -> Change:
    """The record of a change of thresholds, without what it rests on."""
    return Change(
        kind=kind,
        command=command,
        camera=camera,
        threshold=now.threshold if now else None,
        former_threshold=former.threshold if former else None,
        false_alarm_rate=now.false_alarm_rate if now else None,
    )


def manifest_of(path: Path, facts: ModelFacts) -> Path | None:
    """The list of training images of the run that the file lies in; None where it lies in none."""
    run = RunFolder(path.resolve().parent)
    try:
        is_its_run = read_config(run.model / MODEL_CONFIG).weights_sha256 == facts.weights_sha256
    except (UserError, OSError):
        is_its_run = False
    if not is_its_run:
        say("note", "an exported file does not know its training images: these images must not be among them")
        return None
    return run.manifest
