"""From a data location to a finished run folder: what ``train`` and ``demo`` have in common."""

import sys
from dataclasses import dataclass
from pathlib import Path

from flawmap.data.checks import CheckedData, check_leak, check_training_data
from flawmap.data.open_data import open_training_data
from flawmap.data.split import split_normals
from flawmap.detect.detector import AnomalyDetector
from flawmap.errors import UserError
from flawmap.recipe import Recipe
from flawmap.reproducibility import environment
from flawmap.training.device import DeviceName, choose_compute
from flawmap.training.progress import say
from flawmap.training.run_folder import RunFolder, create_run
from flawmap.training.train import StageChoice


@dataclass(frozen=True)
class TrainingOrder:
    """What to train on what, and where to put it."""

    location: str
    recipe: Recipe
    run_path: Path | None
    device: DeviceName = "auto"
    stages: StageChoice = "all"
    skip_unreadable: bool = False


def train_run(order: TrainingOrder, resumed: RunFolder | None) -> tuple[RunFolder, AnomalyDetector]:
    """Check the data, train, calibrate, save. Nothing is created before the data has been found sound."""
    data = open_training_data(order.location, order.recipe.data)
    held_out_fraction = order.recipe.calibration.held_out_fraction
    checked: CheckedData = check_training_data(data, held_out_fraction, order.skip_unreadable)
    check_leak(checked, order.location, order.recipe.data)
    train, held_out = split_normals(checked.data.images, held_out_fraction, order.recipe.seed)
    say("data", f'{order.location}  {len(checked.data.images)} good images, layout "{checked.data.layout}"')
    for skipped in checked.data.skipped:
        say("left out", f"{skipped.key}: {skipped.reason}")
    say("split", f"{len(train)} train, {len(held_out)} held out for the threshold (seed {order.recipe.seed})")
    compute = choose_compute(order.device, order.recipe.compute.precision)
    run = resumed or create_run(order.run_path, checked.data.name, order.recipe)
    side = {image.key: "train" for image in train} | {image.key: "held_out" for image in held_out}
    run.write_data_manifest((side[fact.key], fact) for fact in checked.facts if fact.key in side)
    command = {"command": "flawmap " + " ".join(sys.argv[1:]), "seed": order.recipe.seed}
    run.write_environment(environment(compute.device) | command)
    say("run", str(run.path))
    detector = AnomalyDetector(order.recipe).fit(checked.data, run, order.device, order.stages)
    if order.stages != "pretrain":
        finish(run, detector)
    return run, detector


def finish(run: RunFolder, detector: AnomalyDetector) -> None:
    """Save the detector into its run and say what it promises."""
    proxy, calibration = detector.proxy_, detector.calibration_
    if proxy is not None and proxy.image_auroc is not None and proxy.pixel_auroc is not None:
        say(
            "held out",
            f"simulated defects: image AUROC {proxy.image_auroc:.3f}, pixel AUROC {proxy.pixel_auroc:.3f} "
            f"on {proxy.n} images (not a test result)",
        )
    if calibration is not None:
        text = f"{calibration.threshold:.4g} for {calibration.false_alarm_rate:.1%} false alarms"
        if calibration.false_alarm_rate < calibration.smallest_resolvable_rate:
            text += (
                f"; {calibration.n_held_out} held-out images cannot resolve below "
                f"{calibration.smallest_resolvable_rate:.1%}: add good images for a firmer threshold"
            )
        say("threshold", text)
    detector.save_pretrained(run.model)


def resumed_run(requested: Path | None, recipe: Recipe | None) -> RunFolder:
    """The run that ``--resume`` goes on with.

    Raises:
        UserError: there is none, or a recipe was given that is not the run's.
    """
    from flawmap.recipe_files import load_recipe
    from flawmap.training.run_folder import latest_run, open_run

    path = requested or latest_run()
    if path is None:
        raise UserError("there is no run to resume", "runs/", "flawmap train DATA, or name it with --run DIR")
    run = open_run(path)
    if recipe is not None and recipe != load_recipe(run.recipe):
        raise UserError(
            "the recipe given differs from the one this run began with",
            str(run.recipe),
            "leave --recipe and --set out to go on, or train without --resume to start a new run",
        )
    return run
