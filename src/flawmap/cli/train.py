"""flawmap train DATA."""

import json
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from flawmap.cli.arguments import (
    add_data_arguments,
    add_device_argument,
    add_json_argument,
    add_recipe_arguments,
    recipe_of,
)

DEFAULT_PRESET = "standard"


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    parser.add_argument("data", type=str, help="folder of good images, MVTec AD folder, manifest.csv, or elpv")
    add_recipe_arguments(parser)
    parser.add_argument("--run", type=str, default=None, help="run folder (a taken name gets a number)")
    parser.add_argument("--resume", action="store_true", help="go on with --run DIR, or with the latest run")
    parser.add_argument("--stage", type=Literal["all", "pretrain", "finetune"], default="all")
    add_data_arguments(parser)
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Train; prints the run folder."""
    from dataclasses import asdict

    from flawmap.cli.training_run import TrainingOrder, resumed_run, train_run
    from flawmap.recipe_files import load_recipe

    requested = Path(arguments.run) if arguments.run else None
    resumed = None
    if arguments.resume:
        asked = recipe_of(arguments, DEFAULT_PRESET) if arguments.recipe or arguments.set else None
        resumed = resumed_run(requested, asked)
        recipe = load_recipe(resumed.recipe)
    else:
        recipe = recipe_of(arguments, DEFAULT_PRESET)
    order = TrainingOrder(
        arguments.data, recipe, requested, arguments.device, arguments.stage, arguments.skip_unreadable
    )
    if resumed is not None and resumed.is_finished:
        print(f"{resumed.path}  was finished already")
        return 0
    finished, detector = train_run(order, resumed)
    if arguments.json:
        proxy, calibration = detector.proxy_, detector.calibration_
        summary = {
            "run": str(finished.path),
            "threshold": calibration.threshold if calibration else None,
            "held_out_simulated_defects": asdict(proxy) if proxy else None,
        }
        print(json.dumps(summary))
    else:
        print(f"run        {finished.path}      next: flawmap detect NEW_IMAGES --model {finished.path}")
    return 0
