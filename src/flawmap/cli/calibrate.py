"""flawmap calibrate RUN GOOD_IMAGES."""

import json
import math
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.cli.arguments import add_data_arguments, add_device_argument, add_json_argument
from flawmap.errors import UserError
from flawmap.runs.manifest import FILE_NAME, read_run_manifest
from flawmap.runs.result_folders import free_path

if TYPE_CHECKING:
    from flawmap.data.checks import FileFacts
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.metrics.score_drift import Drift
    from flawmap.runs.calibration import Calibration


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, GOOD_IMAGES and the wanted rate."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train, or a model folder")
    parser.add_argument(
        "images",
        type=str,
        help="folder of good images that training has not seen, or the reviews.csv of flawmap serve",
    )
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        default=None,
        help="wanted share of good images called anomalous (default: as before, or the recipe's)",
    )
    parser.add_argument("--output", type=str, default=None, help="write the recalibrated model to this folder instead")
    add_data_arguments(parser)
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Calibrate; the former calibration is kept beside the new one."""
    from dataclasses import asdict

    import numpy as np

    from flawmap.data.checks import check_good_images
    from flawmap.data.open_data import load_images
    from flawmap.deploy.reviews import is_review_file
    from flawmap.detect.calibration import refuse_bad_rate
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.detect.pretrained import model_folder, refuse_taken, write_calibration
    from flawmap.metrics.score_drift import score_drift

    if arguments.false_alarm_rate is not None:
        refuse_bad_rate(arguments.false_alarm_rate)
    if arguments.output:
        refuse_taken(Path(arguments.output))
    folder = model_folder(Path(arguments.run))
    detector = AnomalyDetector.from_pretrained(folder, arguments.device)
    before = detector.calibration_
    former_rate = before.false_alarm_rate if before else detector.recipe.calibration.false_alarm_rate
    rate = former_rate if arguments.false_alarm_rate is None else arguments.false_alarm_rate
    if is_review_file(Path(arguments.images)):
        calibrate_with_reviews(detector, Path(arguments.images), rate, folder.parent)
    else:
        checked = check_good_images(load_images(arguments.images), arguments.skip_unreadable)
        refuse_training_images(checked.facts, folder.parent)
        if checked.num_duplicates:
            repeats = f"{checked.num_duplicates} images repeat another one's content: each content counts once"
            print(f"left out   {repeats}", file=sys.stderr)
        detector.calibrate(checked.data, rate)
    calibration = detector.calibration_
    assert calibration is not None
    if arguments.output:
        detector.save_pretrained(arguments.output)
    else:
        former = folder / "calibration.json"
        if former.exists():
            shutil.copyfile(former, free_path(folder / "calibration-earlier.json"))
        write_calibration(folder, calibration)
    earlier_scores = before.held_out_scores if before else ()
    drift = score_drift(np.array(earlier_scores), np.array(calibration.held_out_scores), sets_new_threshold=True)
    if arguments.json:
        print(json.dumps(asdict(calibration) | {"drift": asdict(drift) if drift else None}))
    else:
        print(summary(calibration, before, drift))
    return 0


def summary(calibration: "Calibration", before: "Calibration | None", drift: "Drift | None") -> str:
    """The new threshold for people, beside the former one, and whether good images score as they did then."""
    former = f" (was {before.threshold:.4g})" if before else ""
    lines = [
        f"threshold  {calibration.threshold:.4g}{former} for {calibration.false_alarm_rate:.2%} false alarms, from "
        f"{calibration.n_held_out} images (cannot resolve below {calibration.smallest_resolvable_rate:.1%})"
    ]
    if not calibration.is_resolved:
        needed = math.ceil(1 / calibration.false_alarm_rate - 1e-9) - 1  # the smallest n with 1 / (n + 1) <= rate
        lines.append(
            f"           promised are {calibration.smallest_resolvable_rate:.1%} only; "
            f"{calibration.false_alarm_rate:.2%} takes {needed} good images"
        )
    if drift:
        lines.append(f"drift      {drift.text}")
    return "\n".join(lines)


def calibrate_with_reviews(detector: "AnomalyDetector", path: Path, false_alarm_rate: float, run: Path) -> None:
    """Set the thresholds from the scores of images that people called good.

    Args:
        detector: whose scores they are.
        path: of reviews.csv.
        false_alarm_rate: wanted share of good images called anomalous.
        run: whose training images may not be among them.

    Raises:
        UserError: no good image was reviewed, the scores are another model's, or training has seen an image.
    """
    from flawmap.deploy.reviews import read_reviews
    from flawmap.detect.calibration import calibrate

    reviews = read_reviews(path)
    model_id = detector.facts("").model_id
    if foreign := [review for review in reviews if review.model_id != model_id]:
        raise UserError(
            f"{len(foreign)} of {len(reviews)} reviews are of another model, first: {foreign[0].image}",
            str(path),
            "serve this run, or its fp32 export, and review again; or give a folder of good images",
        )
    good = [review for review in reviews if review.truth == "good"]
    if not good:
        raise UserError("no image was reviewed as good", str(path), "agree with an ok, or disagree with an anomaly")
    trained = trained_on(run)
    _refuse_seen([review.image for review in good if review.sha256 in trained], run)
    scores, peaks = [review.score for review in good], [review.map_peak for review in good]
    detector.calibration_ = calibrate(scores, peaks, false_alarm_rate)


def refuse_training_images(images: "Sequence[FileFacts]", run: Path) -> None:
    """A threshold from images that training has seen would be too low.

    Args:
        images: to calibrate with.
        run: whose training; nothing is refused where its list of images is missing.

    Raises:
        UserError: images with the content of training images.
    """
    trained = trained_on(run)
    _refuse_seen([one.path for one in images if trained & {one.sha256, one.pixels_sha256}], run)


def trained_on(run: Path) -> set[str]:
    """Hashes of the images that a run has learned from; empty where its list of images is missing."""
    return {of for row in read_run_manifest(run) if row.split != "held_out" for of in row.hashes}


def _refuse_seen(seen: Sequence[object], run: Path) -> None:
    if seen:
        raise UserError(
            f"{len(seen)} of these images were trained on, first: {seen[0]}",
            str(run / FILE_NAME),
            "give good images that training has not seen; the threshold would be too low",
        )
