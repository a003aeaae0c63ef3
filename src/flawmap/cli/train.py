"""flawmap train DATA."""

import json
import sys
from argparse import Action, ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawmap.advice import command
from flawmap.cli.arguments import (
    add_data_argument,
    add_data_arguments,
    add_device_argument,
    add_recipe_arguments,
    recipe_of,
)
from flawmap.errors import UserError

if TYPE_CHECKING:
    from flawmap.data.open_data import Location
    from flawmap.train import TrainedRun


class _SetTiles(Action):
    """Two settings in one option."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: object = None) -> None:
        namespace.set = [*namespace.set, "data.tiles=auto", f"data.smallest_defect_px={values}"]


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    add_data_argument(parser, may_be_missing="; with --resume, what the run was started with")
    add_recipe_arguments(parser)
    parser.add_argument(
        "--run",
        help="run folder (default: runs/DATE_NAME_ID); if the name is taken, a number is added. A run for a store "
        "(s3://BUCKET/RUN) is made in runs/, in a folder of its last name, and uploaded when it is finished",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run given by --run, or the newest unfinished one"
    )
    parser.add_argument(
        "--stage",
        choices=("all", "pretrain", "finetune"),
        default="all",
        help="for recipes with pretrain.enabled; pretrain: stop after stage 1, finetune: start after it (default: all)",
    )
    parser.add_argument(
        "--smallest-defect-px",
        metavar="PX",
        action=_SetTiles,
        help="width of the smallest defect, in pixels of your images: they are also scored in tiles that show it "
        "(short for --set data.tiles=auto --set data.smallest_defect_px=PX)",
    )
    parser.add_argument(
        "--leave-out",
        metavar="FILE",
        help="learn from all good images but those in this list: rows of a run's unusual/images.csv",
    )
    parser.add_argument(
        "--defects",
        metavar="FOLDER",
        help="images of known defects, with or without masks: the head learns from them, too, and training measures "
        "how many of them are missed; the good images alone define what is normal",
    )
    parser.add_argument(
        "--logger",
        action="append",
        choices=("tensorboard", "mlflow", "wandb"),
        default=[],
        help="where numbers, pictures and the recipe also go, beside the run; repeatable (default: nowhere else)",
    )
    add_data_arguments(parser)
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Train, and print the run folder."""
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.recipe.files import load_recipe
    from flawmap.storage.upload import Destination
    from flawmap.train import (
        TrainedRun,
        TrainingOrder,
        data_of,
        defects_for,
        leaves_out,
        resumed_run,
        skips_unreadable,
        train_run,
    )

    destination = Destination.of(arguments.run, arguments.resume, Path("runs")) if arguments.run else None
    requested = destination.local if destination else None
    resumed = None
    if arguments.resume:
        given = recipe_of(arguments) if arguments.recipe or arguments.set or arguments.roi else None
        resumed = resumed_run(requested, given)
        recipe = load_recipe(resumed.recipe, is_of_model=True)
    else:
        recipe = recipe_of(arguments)
    location = arguments.data or (resumed and data_of(resumed))
    if not location:
        raise UserError("no data given", "flawmap train", "name a folder of good images: flawmap train FOLDER")
    defects = defects_for(arguments.defects, resumed)
    leave_out = leaves_out(arguments.leave_out, resumed)
    if resumed is not None and resumed.is_finished:
        done = TrainedRun(resumed, AnomalyDetector.from_pretrained(resumed.path, arguments.device))
        remark = "was finished already"
    else:
        skip_unreadable = arguments.skip_unreadable
        if resumed is not None and not arguments.strict:
            skip_unreadable = skip_unreadable or skips_unreadable(resumed)
        order = TrainingOrder(
            location,
            recipe,
            requested,
            arguments.device,
            arguments.stage,
            skip_unreadable,
            arguments.command,
            arguments.strict,
            leave_out,
            defects,
            tuple(arguments.logger),
        )
        done = train_run(order, resumed)
        remark = _what_next(done, location)
    if arguments.json:
        print(json.dumps(_as_json(done)))
    else:
        print(f"run        {done.run.path}      {remark}")
    if destination and done.run.is_finished and (uploaded := destination.upload(done.run.path)):
        print(f"uploaded   {uploaded}", file=sys.stderr)
    return 0


def _what_next(done: "TrainedRun", location: "Location") -> str:
    """How many files were passed over, and the command that comes next."""
    from flawmap.data.left_out import counted
    from flawmap.data.open_data import locations_of

    words = ["detect", "NEW_IMAGES", "--model", done.run.path]
    if not done.run.is_finished:
        words = ["train", *locations_of(location), "--run", done.run.path, "--resume"]
    beside = f"{done.n_good} good images, {counted(done.left_out)}; " if done.left_out else ""
    return f"{beside}next: {command('flawmap', *words)}"


def _as_json(done: "TrainedRun") -> dict[str, object]:
    from flawmap.data.left_out import as_records
    from flawmap.runs.unusual import read_unusual

    proxy, calibration, known = done.detector.proxy_, done.detector.calibration_, done.detector.record_.known_defects
    unusual = read_unusual(done.run.unusual)
    return {
        "run": str(done.run.path),
        "finished": done.run.is_finished,
        "threshold": calibration.threshold if calibration else None,
        "held_out_simulated_defects": asdict(proxy) if proxy else None,
        "known_defects": asdict(known) if known else None,
        "left_out": as_records(done.left_out),
        "unusual": None if unusual is None else [asdict(image) for image in unusual.images],
    }
