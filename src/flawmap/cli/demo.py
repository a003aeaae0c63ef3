"""flawmap demo: the whole path on real solar-cell images (ELPV), with the quick recipe."""

import json
import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from flawmap.cli.arguments import add_device_argument, add_json_argument

RECIPE = "demo"
DEFAULT_RUN = "runs/demo"


def add_arguments(parser: ArgumentParser) -> None:
    """Where the run goes."""
    parser.add_argument(
        "--run",
        type=str,
        default=DEFAULT_RUN,
        help=f"run folder; an unfinished or equal one is continued (default: {DEFAULT_RUN})",
    )
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Pre-train, fine-tune, evaluate, report."""
    from flawmap.cli.evaluate import summary
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.evaluate.evaluate_run import evaluate_run
    from flawmap.recipe.files import load_recipe
    from flawmap.runs.run_folder import RunFolder
    from flawmap.train import TrainingOrder, train_run

    started = time.monotonic()
    recipe = load_recipe(RECIPE)
    path = Path(arguments.run)
    earlier = RunFolder(path)
    same = earlier.recipe.is_file() and load_recipe(earlier.recipe) == recipe
    folder = earlier if same else None
    if folder is None or not folder.is_finished:
        order = TrainingOrder("elpv", recipe, path, arguments.device, command=arguments.command)
        folder, _ = train_run(order, folder)
    evaluation = evaluate_run(
        folder.path,
        "elpv",
        device=arguments.device,
        command=arguments.command,
        progress=ProgressLine("evaluate"),
    )
    if arguments.json:
        print(json.dumps(asdict(evaluation)))
    else:
        print(summary(evaluation))
        print(f"report     {folder.report}   ({(time.monotonic() - started) / 60:.1f} minutes)")
    return 0
