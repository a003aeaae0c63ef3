"""flawmap calibrate RUN GOOD_IMAGES."""

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from flawmap.cli.arguments import add_data_arguments, add_device_argument


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, GOOD_IMAGES and the wanted rate."""
    parser.add_argument("run", help="a run folder of flawmap train, or a model folder")
    parser.add_argument(
        "images",
        nargs="+",
        help="folders of good images that training has not seen, or the reviews.csv of flawmap serve",
    )
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        help="wanted share of good images called anomalous (default: as before, or the recipe's)",
    )
    parser.add_argument("--output", help="write the recalibrated model to this folder instead")
    add_data_arguments(parser)
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Calibrate; prints the new threshold."""
    from flawmap.calibrate import calibrate_run
    from flawmap.data.left_out import as_records, counted
    from flawmap.data.left_out import lines as left_out_lines

    result = calibrate_run(
        Path(arguments.run),
        arguments.images,
        arguments.false_alarm_rate,
        Path(arguments.output) if arguments.output else None,
        arguments.skip_unreadable,
        arguments.device,
        arguments.strict,
    )
    if result.n_duplicates:
        duplicates = f"{result.n_duplicates} images with the same pixels as another one"
        print(f"left out   {duplicates}: each content counts once", file=sys.stderr)
    for line in left_out_lines(result.left_out):
        print(f"left out   {line}", file=sys.stderr)
    if arguments.json:
        drift = asdict(result.drift) if result.drift else None
        print(json.dumps(asdict(result.calibration) | {"drift": drift, "left_out": as_records(result.left_out)}))
    else:
        first, *second = result.calibration.words
        former = f"; was {result.former.threshold:.4g}" if result.former else ""
        print(f"threshold  {first}{former}", *(f"           {line}" for line in second), sep="\n")
        if result.drift:
            print(f"drift      {result.drift.text}")
        if result.left_out:
            n_images = len(result.calibration.held_out_scores)
            print(f"total      {n_images} good images, {counted(result.left_out)}")
    return 0
