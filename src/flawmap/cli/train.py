"""flawmap train DATA."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawmap.cli.arguments import (
    add_data_arguments,
    add_device_argument,
    add_json_argument,
    add_recipe_arguments,
    recipe_of,
)

if TYPE_CHECKING:
    from flawmap.detect.detector import AnomalyDetector


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    parser.add_argument("data", type=str, help="folder of good images, MVTec AD folder, manifest.csv, or elpv")
    add_recipe_arguments(parser)
    parser.add_argument("--run", type=str, default=None, help="run folder (a taken name gets a number)")
    parser.add_argument("--resume", action="store_true", help="go on with --run DIR, or with the latest run")
    parser.add_argument(
        "--stage",
        choices=("all", "pretrain", "finetune"),
        default="all",
        help="pretrain: end after stage 1; finetune: only if stage 1 is done (default: all)",
    )
    add_data_arguments(parser)
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Train; prints the run folder."""
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.recipe.files import load_recipe
    from flawmap.train import TrainingOrder, resumed_run, train_run

    requested = Path(arguments.run) if arguments.run else None
    resumed = None
    if arguments.resume:
        asked = recipe_of(arguments) if arguments.recipe or arguments.set else None
        resumed = resumed_run(requested, asked)
        recipe = load_recipe(resumed.recipe)
    else:
        recipe = recipe_of(arguments)
    if resumed is not None and resumed.is_finished:
        detector = AnomalyDetector.from_pretrained(resumed.path, arguments.device)
        finished, words = resumed, "was finished already"
    else:
        order = TrainingOrder(
            arguments.data,
            recipe,
            requested,
            arguments.device,
            arguments.stage,
            arguments.skip_unreadable,
            arguments.command,
        )
        finished, detector = train_run(order, resumed)
        words = f"next: flawmap detect NEW_IMAGES --model {finished.path}"
        if not finished.is_finished:
            words = f"next: flawmap train {arguments.data} --run {finished.path} --resume"
    if arguments.json:
        print(json.dumps(_facts(finished.path, finished.is_finished, detector)))
    else:
        print(f"run        {finished.path}      {words}")
    return 0


def _facts(path: Path, is_finished: bool, detector: "AnomalyDetector") -> dict[str, Any]:
    """What ``--json`` prints."""
    from dataclasses import asdict

    proxy, calibration = detector.proxy_, detector.calibration_
    return {
        "run": str(path),
        "finished": is_finished,
        "threshold": calibration.threshold if calibration else None,
        "held_out_simulated_defects": asdict(proxy) if proxy else None,
    }
