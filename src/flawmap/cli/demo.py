"""flawmap demo: the whole path on real solar-cell images (ELPV), with the quick recipe."""

import json
import time
from argparse import ArgumentParser, Namespace
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
    from flawmap.cli.evaluate import EvaluationOrder, evaluate_run, summary
    from flawmap.recipe.files import load_recipe
    from flawmap.runs.run_folder import RunFolder
    from flawmap.train import TrainingOrder, train_run

    started = time.monotonic()
    recipe = load_recipe(RECIPE)
    path = Path(arguments.run)
    same = (path / "recipe.yaml").is_file() and load_recipe(path / "recipe.yaml") == recipe
    folder = RunFolder(path) if same else None
    if folder is None or not folder.is_finished:
        order = TrainingOrder("elpv", recipe, path, arguments.device, command=arguments.command)
        folder, _ = train_run(order, folder)
    metrics = evaluate_run(EvaluationOrder(folder.path, "elpv", device=arguments.device, command=arguments.command))
    if arguments.json:
        print(json.dumps(metrics))
    else:
        print(summary(metrics))
        print(f"report     {folder.path / 'report.html'}   ({(time.monotonic() - started) / 60:.1f} minutes)")
    return 0
