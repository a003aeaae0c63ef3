"""flawmap demo: train, evaluate and report on real solar-cell images (ELPV), with a recipe like quick."""

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
        "--run", default=DEFAULT_RUN, help=f"run folder; an interrupted demo resumes there (default: {DEFAULT_RUN})"
    )
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Train unless the run is finished already, then evaluate it and write its report."""
    from flawmap.cli.evaluate import summary
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.evaluate.evaluate_run import evaluate_run
    from flawmap.recipe.files import load_recipe
    from flawmap.runs.run_folder import RunFolder
    from flawmap.train import TrainingOrder, train_run

    started = time.monotonic()
    recipe = load_recipe(RECIPE)
    run = RunFolder(Path(arguments.run))
    is_demo = run.recipe.is_file() and load_recipe(run.recipe, is_of_model=True) == recipe
    if not (is_demo and run.is_finished):
        order = TrainingOrder("elpv", recipe, run.path, arguments.device, command=arguments.command)
        run = train_run(order, run if is_demo else None).run
    progress = ProgressLine("evaluate")
    evaluation = evaluate_run(run.path, "elpv", device=arguments.device, command=arguments.command, progress=progress)
    if arguments.json:
        print(json.dumps(asdict(evaluation)))
    else:
        print(summary(evaluation))
        print(f"report     {run.report}   ({(time.monotonic() - started) / 60:.1f} minutes)")
    return 0
