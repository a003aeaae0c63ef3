"""flawmap calibrate RUN|FILE GOOD_IMAGES, --undo and --versions."""

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.advice import command
from flawmap.cli.arguments import add_data_arguments, add_device_argument
from flawmap.errors import UserError

if TYPE_CHECKING:
    from flawmap.deploy.good_scores import Recalibration
    from flawmap.runs.versions import History


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, GOOD_IMAGES, the camera and the wanted rate; or what is to be done instead."""
    parser.add_argument("run", help="a run or model folder, or a file of flawmap export")
    parser.add_argument(
        "images",
        nargs="*",
        help="folders of good images that training has not seen, or the reviews.csv of flawmap serve",
    )
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        help="wanted share of good images called anomalous (default: as before, or the recipe's)",
    )
    parser.add_argument(
        "--product", metavar="NAME", help="set the threshold of this product, in a model of several products"
    )
    parser.add_argument(
        "--camera", metavar="NAME", help="set the threshold of this camera (default: the one without a camera)"
    )
    parser.add_argument(
        "--output",
        help="write the recalibrated model to this folder instead; of an exported file: the threshold, as a file",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--undo", action="store_true", help="take back the last change of the threshold; again: the one before"
    )
    instead.add_argument("--versions", action="store_true", help="list all changes of the thresholds")
    add_data_arguments(parser)
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Calibrate, take back or list; prints the new threshold."""
    from flawmap.data.left_out import lines as left_out_lines
    from flawmap.deploy.runtime import is_exported
    from flawmap.runs.threshold_names import threshold_name

    run_path = Path(arguments.run)
    arguments.whose = threshold_name(arguments.product, arguments.camera)
    _refuse_contradictions(arguments)
    if arguments.versions:
        return _list(run_path, arguments.json)
    result = _of_file(run_path, arguments) if is_exported(run_path) else _of_run(run_path, arguments)
    if result.n_duplicates:
        duplicates = f"{result.n_duplicates} images with the same pixels as another one"
        print(f"left out   {duplicates}: each content counts once", file=sys.stderr)
    for line in left_out_lines(result.left_out):
        print(f"left out   {line}", file=sys.stderr)
    print(json.dumps(_as_json(result, arguments)) if arguments.json else "\n".join(_as_lines(result, arguments)))
    return 0


def _of_run(run: Path, arguments: Namespace) -> "Recalibration":
    from flawmap.calibrate import calibrate_run, undo_calibration

    if arguments.undo:
        return undo_calibration(run, arguments.whose, arguments.command)
    return calibrate_run(
        run,
        arguments.images,
        arguments.false_alarm_rate,
        Path(arguments.output) if arguments.output else None,
        arguments.skip_unreadable,
        arguments.device,
        arguments.strict,
        arguments.whose,
        arguments.command,
    )


def _of_file(file: Path, arguments: Namespace) -> "Recalibration":
    from flawmap.deploy.calibrate_file import calibrate_file, undo_file_calibration

    if arguments.undo:
        return undo_file_calibration(file, arguments.whose, arguments.command)
    return calibrate_file(
        file,
        arguments.images,
        arguments.false_alarm_rate,
        Path(arguments.output) if arguments.output else None,
        arguments.skip_unreadable,
        arguments.strict,
        arguments.whose,
        arguments.command,
    )


def _refuse_contradictions(arguments: Namespace) -> None:
    place = "flawmap calibrate"
    if arguments.undo or arguments.versions:
        option = "--undo" if arguments.undo else "--versions"
        given = {"GOOD_IMAGES": arguments.images or None, "--output": arguments.output}
        given["--false-alarm-rate"] = arguments.false_alarm_rate
        if also := [name for name, value in given.items() if value is not None]:
            raise UserError(f"{option} goes without {' and '.join(also)}", place, "leave one of them out")
    elif not arguments.images:
        raise UserError("no good images are given", place, "flawmap calibrate RUN GOOD_IMAGES, or --undo")


def _list(run: Path, as_json: bool) -> int:
    from flawmap.deploy.runtime import is_exported
    from flawmap.runs.model_folder import model_folder, read_model
    from flawmap.runs.run_folder import RunFolder
    from flawmap.runs.updates import models_in_force
    from flawmap.runs.versions import describe, read_history

    if not is_exported(run):
        read_model(run, with_thresholds=False)  # raises where there is none
    elif not run.is_file():
        raise UserError(f"no such file: {run}  (you are in {Path.cwd()})", "", "flawmap export RUN --to onnx")
    current, folder = read_history(model_folder(run)), RunFolder(run)
    models = {} if is_exported(run) or folder.version is None else models_in_force(folder)
    histories = {name: read_history(model) for name, model in models.items()}
    if as_json:
        earlier = [_record(history) | {"model": name} for name, history in list(histories.items())[:-1]]
        print(json.dumps(_record(current) | {"earlier_models": earlier}))
        return 0
    lines = [line for name, history in histories.items() for line in (f"model of {name}", *describe(history))]
    print("\n".join(lines or describe(current)) or "no change of a threshold is recorded since the training")
    return 0


def _record(history: "History") -> dict[str, object]:
    record: dict[str, object] = asdict(history)
    return record | {"without_effect": sorted(history.without_effect)}


def _as_json(result: "Recalibration", arguments: Namespace) -> dict[str, object]:
    from flawmap.data.left_out import as_records

    calibration: dict[str, object] = asdict(result.calibration) if result.calibration else {"threshold": None}
    return calibration | {
        "drift": asdict(result.drift) if result.drift else None,
        "product": arguments.product,
        "camera": arguments.camera,
        "version": result.version.number if result.version else None,
        "undone": result.undone.number if result.undone else None,
        "left_out": as_records(result.left_out),
    }


def _as_lines(result: "Recalibration", arguments: Namespace) -> list[str]:
    from flawmap.data.left_out import counted
    from flawmap.runs.threshold_names import options_of, whose

    first, *second = result.calibration.words if result.calibration else ["none, as before the first calibration"]
    former = f"; was {result.former.threshold:.4g}" if result.former else ""
    of = f"{whose(arguments.whose)}: " if arguments.whose else ""
    lines = [f"threshold  {of}{first}{former}", *(f"           {line}" for line in second)]
    if result.drift:
        lines.append(f"drift      {result.drift.text}")
    if result.undone:
        lines.append(
            f"undone     version {result.undone.number} of {result.undone.at[:10]}: {result.undone.change.command}"
        )
    elif result.version:
        back = command("flawmap", "calibrate", Path(arguments.run), "--undo", *options_of(arguments.whose))
        lines.append(f"version    {result.version.number}; to take it back: {back}")
    if result.left_out and result.calibration:
        lines.append(f"total      {result.calibration.n_held_out} good images, {counted(result.left_out)}")
    return lines
