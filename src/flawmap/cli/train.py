"""flawmap train DATA."""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from flawmap.advice import command
from flawmap.cli.arguments import (
    add_data_argument,
    add_data_arguments,
    add_device_argument,
    add_recipe_arguments,
    recipe_of,
)


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    add_data_argument(parser)
    add_recipe_arguments(parser)
    parser.add_argument(
        "--run", help="run folder (default: runs/DATE_NAME_ID); if the name is taken, a number is added"
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
    add_data_arguments(parser)
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Train, and print the run folder."""
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.recipe.files import load_recipe
    from flawmap.train import TrainingOrder, resumed_run, train_run

    requested = Path(arguments.run) if arguments.run else None
    resumed = None
    if arguments.resume:
        given = recipe_of(arguments) if arguments.recipe or arguments.set else None
        resumed = resumed_run(requested, given)
        recipe = load_recipe(resumed.recipe)
    else:
        recipe = recipe_of(arguments)
    if resumed is not None and resumed.is_finished:
        detector = AnomalyDetector.from_pretrained(resumed.path, arguments.device)
        finished, remark = resumed, "was finished already"
    else:
        order = TrainingOrder(
            arguments.data,
            recipe,
            requested,
            arguments.device,
            arguments.stage,
            arguments.skip_unreadable,
            arguments.command,
            arguments.strict,
        )
        finished, detector = train_run(order, resumed)
        next_words = ["detect", "NEW_IMAGES", "--model", finished.path]
        if not finished.is_finished:
            next_words = ["train", *arguments.data, "--run", finished.path, "--resume"]
        remark = f"next: {command('flawmap', *next_words)}"
    if arguments.json:
        proxy, calibration = detector.proxy_, detector.calibration_
        facts = {
            "run": str(finished.path),
            "finished": finished.is_finished,
            "threshold": calibration.threshold if calibration else None,
            "held_out_simulated_defects": asdict(proxy) if proxy else None,
        }
        print(json.dumps(facts))
    else:
        print(f"run        {finished.path}      {remark}")
    return 0
