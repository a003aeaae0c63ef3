"""flawmap calibrate RUN GOOD_IMAGES."""

import json
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_device_argument, add_json_argument, free_path


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, GOOD_IMAGES and the wanted rate."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train, or a model folder")
    parser.add_argument("images", type=str, help="folder of good images that training has not seen")
    parser.add_argument(
        "--false-alarm-rate", type=float, default=0.01, help="wanted share of good images called anomalous"
    )
    parser.add_argument("--output", type=str, default=None, help="write the recalibrated model to this folder instead")
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Calibrate; the former calibration is kept beside the new one."""
    from dataclasses import asdict

    from flawmap.data.open_data import load_images
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.detect.pretrained import write_calibration
    from flawmap.errors import UserError

    if not 0 < arguments.false_alarm_rate < 1:
        raise UserError(
            f"the false-alarm rate is {arguments.false_alarm_rate}, must be between 0 and 1",
            "--false-alarm-rate",
            "0.01 is 1 %",
        )
    folder = Path(arguments.run)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    detector = AnomalyDetector.from_pretrained(folder, arguments.device)
    calibration = detector.calibrate(load_images(arguments.images), arguments.false_alarm_rate).calibration_
    assert calibration is not None
    if arguments.output:
        detector.save_pretrained(arguments.output)
    else:
        former = folder / "calibration.json"
        if former.exists():
            former.rename(free_path(folder / "calibration-earlier.json"))
        write_calibration(folder, calibration)
    if arguments.json:
        print(json.dumps(asdict(calibration)))
    else:
        print(
            f"threshold  {calibration.threshold:.4g} for {calibration.false_alarm_rate:.2%} false alarms, from "
            f"{calibration.n_held_out} images (cannot resolve below {calibration.smallest_resolvable_rate:.1%})"
        )
    return 0
