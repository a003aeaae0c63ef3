"""flawmap calibrate RUN GOOD_IMAGES."""

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_device_argument, add_json_argument, free_path
from flawmap.errors import UserError
from flawmap.training.run_manifest import FILE_NAME, read_run_manifest


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, GOOD_IMAGES and the wanted rate."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train, or a model folder")
    parser.add_argument("images", type=str, help="folder of good images that training has not seen")
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        default=0.01,
        help="wanted share of good images called anomalous (default: 0.01)",
    )
    parser.add_argument("--output", type=str, default=None, help="write the recalibrated model to this folder instead")
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Calibrate; the former calibration is kept beside the new one."""
    from dataclasses import asdict

    from flawmap.data.open_data import load_images
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.detect.pretrained import model_folder, write_calibration

    folder = model_folder(Path(arguments.run))
    detector = AnomalyDetector.from_pretrained(folder, arguments.device)
    images = load_images(arguments.images)
    refuse_training_images((image.path for image in images.images), folder.parent)
    calibration = detector.calibrate(images, arguments.false_alarm_rate).calibration_
    assert calibration is not None
    if arguments.output:
        detector.save_pretrained(arguments.output)
    else:
        former = folder / "calibration.json"
        if former.exists():
            shutil.copyfile(former, free_path(folder / "calibration-earlier.json"))
        write_calibration(folder, calibration)
    if arguments.json:
        print(json.dumps(asdict(calibration)))
    else:
        print(
            f"threshold  {calibration.threshold:.4g} for {calibration.false_alarm_rate:.2%} false alarms, from "
            f"{calibration.n_held_out} images (cannot resolve below {calibration.smallest_resolvable_rate:.1%})"
        )
        if calibration.false_alarm_rate < calibration.smallest_resolvable_rate:
            needed = math.ceil(1 / calibration.false_alarm_rate - 1e-9) - 1  # the smallest n with 1 / (n + 1) <= rate
            print(
                f"           promised are {calibration.smallest_resolvable_rate:.1%} only; "
                f"{calibration.false_alarm_rate:.2%} takes {needed} good images"
            )
    return 0


def refuse_training_images(paths: Iterable[Path], run: Path) -> None:
    """A threshold from images that training has seen would be too low.

    Args:
        paths: images to calibrate with.
        run: whose training; nothing is refused where its list of images is missing.

    Raises:
        UserError: images with the content of training images.
    """
    from flawmap.reproducibility import file_sha256

    trained = {row.sha256 for row in read_run_manifest(run) if row.split != "held_out"}
    seen = [path for path in paths if file_sha256(path) in trained] if trained else []
    if seen:
        raise UserError(
            f"{len(seen)} of these images were trained on, first: {seen[0]}",
            str(run / FILE_NAME),
            "give good images that training has not seen; the threshold would be too low",
        )
