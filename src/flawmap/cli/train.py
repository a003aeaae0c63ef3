"""flawmap train DATA."""

import json
import sys
from argparse import Action, ArgumentParser, Namespace
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawmap.advice import command
from flawmap.cli.arguments import (
    add_cluster_argument,
    add_data_argument,
    add_data_arguments,
    add_device_argument,
    add_recipe_arguments,
    recipe_of,
)
from flawmap.errors import UserError

if TYPE_CHECKING:
    from flawmap.data.open_data import Location
    from flawmap.engine.elsewhere import Elsewhere
    from flawmap.engine.launch import Launch
    from flawmap.runs.run_folder import RunFolder
    from flawmap.storage.upload import Destination
    from flawmap.train import TrainedRun, TrainingOrder


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
    add_cluster_argument(parser, "encode the good images, in the parts that memory.shards says,")
    add_data_arguments(parser)
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Train, alone or with the processes that a launcher has started, and print the run folder."""
    from flawmap.engine.launch import Launch, launched

    if (others := launched()) is not None:
        return _run_with_others(arguments, others)
    wanted = _wanted(arguments)
    devices = 1 if wanted.is_finished or wanted.order.recipe.compute.nodes > 1 else wanted.order.recipe.compute.devices
    return _run_with_others(arguments, Launch(1, devices), wanted) if devices > 1 else _train(arguments, wanted)


def _run_with_others(arguments: Namespace, others: "Launch", wanted: "Wanted | None" = None) -> int:
    """Train as one of several processes: the first one does what a process alone does, and the others help it.

    Args:
        others: how many there are.
        wanted: what is trained, where this process has started the others; else the first one finds out.
    """
    from flawmap.engine.compute import choose_compute
    from flawmap.engine.launch import is_first_of_node, joined
    from flawmap.engine.processes import HeardError, from_first, heard_by_all, is_first
    from flawmap.train import TrainingOrder, train_beside

    device = choose_compute(arguments.device, devices=others.devices if wanted else 1).device
    try:
        with joined(others, device), heard_by_all():
            if is_first():
                found: list[Wanted] = []
                from_first(lambda: _told(wanted or _wanted(arguments), found))
                return _train(arguments, found[0])
            with redirect_stderr(StringIO()):  # the first one says it
                order = from_first(bytes)
                if order:
                    train_beside(TrainingOrder.from_json(order))
            return 0
    except HeardError:
        if not is_first_of_node():
            raise SystemExit(2) from None  # another process of this machine says it
        raise


def _told(wanted: "Wanted", found: "list[Wanted]") -> bytes:
    found.append(wanted)
    return b"" if wanted.is_finished else wanted.order.to_json()


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; a run that is finished already only has to be named."""

    order: "TrainingOrder"
    resumed: "RunFolder | None"
    destination: "Destination | None"

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.resumed is not None and self.resumed.is_finished


def _wanted(arguments: Namespace) -> Wanted:
    from flawmap.recipe.files import load_recipe
    from flawmap.storage.upload import Destination
    from flawmap.train import TrainingOrder, data_of, defects_for, leaves_out, resumed_run, skips_unreadable

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
        _elsewhere(arguments.cluster),
    )
    return Wanted(order, resumed, destination)


def _train(arguments: Namespace, wanted: Wanted) -> int:
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.train import TrainedRun, train_run

    order, destination = wanted.order, wanted.destination
    if wanted.resumed is not None and wanted.resumed.is_finished:
        done = TrainedRun(wanted.resumed, AnomalyDetector.from_pretrained(wanted.resumed.path, arguments.device))
        remark = "was finished already"
    else:
        done = train_run(order, wanted.resumed)
        remark = _what_next(done, order.location)
    if arguments.json:
        print(json.dumps(_as_json(done)))
    else:
        print(f"run        {done.run.path}      {remark}")
    if destination and done.run.is_finished and (uploaded := destination.upload(done.run.path)):
        print(f"uploaded   {uploaded}", file=sys.stderr)
    return 0


def _elsewhere(cluster: str | None) -> "Elsewhere | None":
    """What encodes shards in a cluster, from the package flawmap_cluster, which comes with this one."""
    from importlib import import_module

    return import_module("flawmap_cluster.train").in_cluster(cluster) if cluster else None


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
