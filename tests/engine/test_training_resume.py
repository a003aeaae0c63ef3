"""Interrupted training: whatever stops it, going on gives the bits of a training that was not stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor

from flawmap.data.sample import NormalImage
from flawmap.detect.fit import fit_scorer
from flawmap.engine.compute import Compute
from flawmap.engine.tensor_files import read_tensors
from flawmap.errors import UserError
from flawmap.paper import fit as paper_fit
from flawmap.paper.finetune import FinetuneModule
from flawmap.paper.pretrain import PretrainModule
from flawmap.recipe.settings import ComputeSettings, Recipe
from flawmap.runs.run_folder import RunFolder, create_run

pytestmark = pytest.mark.usefixtures("small_heads")

STAGES = ("pretrain", "finetune")
MODULES = {"pretrain": PretrainModule, "finetune": FinetuneModule}


class StoppedError(Exception):
    """Stands for whatever ends a training."""


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a stage raise ``error`` in a step; ``None`` lets it pass again."""
    originals = {stage: module.training_step for stage, module in MODULES.items()}

    def stop(stage: str, at: int | None, error: BaseException | None = None) -> None:
        def training_step(self: lightning.LightningModule, batch: dict[str, Tensor], number: int) -> Tensor:
            if self.global_step == at:
                raise error or StoppedError
            return originals[stage](self, batch, number)

        monkeypatch.setattr(MODULES[stage], "training_step", training_step)

    return stop


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def whole(shelf: Path, normal_images: tuple[NormalImage, ...], tiny_recipe: Recipe, cpu: Compute) -> RunFolder:
    """A run that nothing interrupted; trained once for all tests."""
    run = RunFolder(shelf / "whole")
    if not run.path.exists():
        run = create_run(run.path, "tiles", tiny_recipe)
        fit_scorer(normal_images, tiny_recipe, run, cpu)
    return run


def log(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]


def assert_same_training(run: RunFolder, uninterrupted: RunFolder) -> None:
    """Equal bits in both stages' results, and a log with every step once."""
    for stage in STAGES:
        tensors, expected = (read_tensors(r.stage_output(stage)) for r in (run, uninterrupted))
        assert tensors.keys() == expected.keys()
        assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []
        assert not run.checkpoint(stage).exists()
    assert log(run) == log(uninterrupted)
    steps = [(record["stage"], record["step"], record["epoch"]) for record in log(run)]
    assert steps == [(stage, step, step // 2) for stage in STAGES for step in range(4)]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_that_goes_on_is_the_same_training(
    tiny_recipe: Recipe, normal_images, whole, new_run, cpu: Compute, stop_at, workers: int
):
    """Stopped in the middle of an epoch and at its start, in both stages; every epoch has two steps."""
    recipe = replace(tiny_recipe, compute=ComputeSettings(workers=workers))
    broken = new_run("broken")
    for stage, at in (("pretrain", 1), ("pretrain", 2), ("finetune", 3)):
        stop_at(stage, at)
        with pytest.raises(StoppedError):
            fit_scorer(normal_images, recipe, broken, cpu, save_every_seconds=0.0)
        assert broken.checkpoint(stage).is_file()
        stop_at(stage, None)
    fit_scorer(normal_images, recipe, broken, cpu)
    assert_same_training(broken, whole)


def test_going_on_from_an_older_checkpoint_makes_the_lost_steps_again(
    tiny_recipe: Recipe, normal_images, whole, new_run, cpu: Compute, stop_at
):
    broken = new_run("broken")
    stop_at("pretrain", 1)
    with pytest.raises(StoppedError):
        fit_scorer(normal_images, tiny_recipe, broken, cpu, save_every_seconds=0.0)
    stop_at("pretrain", 3)
    with pytest.raises(StoppedError):
        fit_scorer(normal_images, tiny_recipe, broken, cpu, save_every_seconds=1e9)  # saves nothing more
    assert [record["step"] for record in log(broken)] == [0, 1, 2]
    stop_at("pretrain", None)
    fit_scorer(normal_images, tiny_recipe, broken, cpu)
    assert_same_training(broken, whole)


def test_stopped_after_its_last_step_a_stage_is_finished_without_another(
    tiny_recipe: Recipe, normal_images, whole, new_run, cpu: Compute, monkeypatch: pytest.MonkeyPatch
):
    """The last checkpoint is from before the last step, so that this one is made again; the others are not."""
    broken = new_run("broken")

    def killed(*_: object) -> None:
        raise StoppedError

    for stage in STAGES:
        with monkeypatch.context() as patch:
            patch.setattr("flawmap.engine.stage.write_tensors", killed)
            with pytest.raises(StoppedError):
                fit_scorer(normal_images, tiny_recipe, broken, cpu, save_every_seconds=0.0)
        assert log(broken)[-1]["stage"] == stage and log(broken)[-1]["step"] == 3
        if stage == "pretrain":  # go on to stage 2, which then is killed, too
            fit_scorer(normal_images, tiny_recipe, broken, cpu, stages="pretrain")
    fit_scorer(normal_images, tiny_recipe, broken, cpu)
    assert_same_training(broken, whole)


def test_the_last_record_of_a_stage_is_read_from_the_log(tiny_recipe, normal_images, new_run, cpu, monkeypatch):
    """As spawned processes leave it: this process has made no step, yet the result says how the last one was."""
    run, original = new_run("run"), paper_fit.train

    def trained_elsewhere(module, *rest):
        original(module, *rest)
        module.record = {}

    monkeypatch.setattr(paper_fit, "train", trained_elsewhere)
    fit_scorer(normal_images, tiny_recipe, run, cpu)
    for stage in STAGES:
        about = json.loads(run.stage_output(stage).with_suffix(".json").read_text(encoding="utf-8"))
        assert about["last"] == [record for record in log(run) if record["stage"] == stage][-1]
        assert about["last"]["step"] == 3


def test_data_that_changed_since_the_checkpoint_is_refused(
    tiny_recipe: Recipe, normal_images: tuple[NormalImage, ...], new_run, cpu: Compute, stop_at
):
    """Else what was learned from other images would be stored under these images' key."""
    run = new_run("run")
    stop_at("pretrain", 2)
    with pytest.raises(StoppedError):
        fit_scorer(normal_images, tiny_recipe, run, cpu, save_every_seconds=0.0)
    stop_at("pretrain", None)
    with pytest.raises(UserError) as caught:
        fit_scorer(normal_images[:-1], tiny_recipe, run, cpu)
    assert "made from other data" in caught.value.problem
    assert caught.value.place == str(run.checkpoint("pretrain"))
    fit_scorer(normal_images, tiny_recipe, run, cpu, stages="pretrain")  # the checkpoint is as good as before
    assert run.stage_output("pretrain").is_file()


def test_a_loss_that_is_no_number_stops_and_the_last_checkpoint_is_still_there(
    tiny_recipe: Recipe, normal_images, whole, new_run, cpu: Compute, monkeypatch: pytest.MonkeyPatch
):
    run = new_run("run")
    original = PretrainModule.student_scores
    with monkeypatch.context() as patch:

        def diverged(self: PretrainModule, *arguments: object, **options: object) -> Tensor:
            return original(self, *arguments, **options) * (float("nan") if self.global_step == 3 else 1.0)

        patch.setattr(PretrainModule, "student_scores", diverged)
        with pytest.raises(UserError) as caught:
            fit_scorer(normal_images, tiny_recipe, run, cpu, save_every_seconds=0.0)
    assert (caught.value.problem, caught.value.place) == ("the loss is nan at step 3", "stage pretrain")
    fit_scorer(normal_images, tiny_recipe, run, cpu)  # from there it goes on, here without what was wrong
    assert_same_training(run, whole)


def test_ctrl_c_is_a_keyboard_interrupt_and_works_again_afterwards(
    tiny_recipe: Recipe, normal_images, new_run, cpu: Compute, stop_at
):
    run = new_run("run")
    stop_at("pretrain", 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fit_scorer(normal_images, tiny_recipe, run, cpu, save_every_seconds=0.0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run.checkpoint("pretrain").is_file()


# ---- killed from outside

CHILD = """
import sys
from pathlib import Path
import torch
from flawmap.data.sample import NormalImage
from flawmap.paper import projection
from flawmap.recipe.files import load_recipe
from flawmap.engine.compute import Compute
from flawmap.runs.run_folder import open_run
from flawmap.detect.fit import fit_scorer

torch.set_num_threads(1)
projection.HIDDEN_DIM = 32
run = open_run(Path(sys.argv[1]))
images = [NormalImage(Path(path).name, Path(path)) for path in sys.argv[2:]]
fit_scorer(images, load_recipe(run.recipe), run, Compute("cpu", "fp32", ""), save_every_seconds=0.0)
"""


def start_child(run: RunFolder, images: Sequence[NormalImage]) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(run.path), *(str(image.path) for image in images)])


@pytest.mark.slow
def test_killed_in_each_stage_training_goes_on_to_the_same_bits(
    tmp_path: Path, normal_images: tuple[NormalImage, ...], tiny_recipe: Recipe
):
    recipe = replace(
        tiny_recipe,
        pretrain=replace(tiny_recipe.pretrain, epochs=20),
        finetune=replace(tiny_recipe.finetune, epochs=20),
    )
    whole, killed = (create_run(tmp_path / shelf / "run", "tiles", recipe) for shelf in ("one", "another"))
    assert start_child(whole, normal_images).wait() == 0
    for stage in STAGES:
        child = start_child(killed, normal_images)
        while child.poll() is None and not any(
            record["stage"] == stage and record["step"] >= 13 for record in written_so_far(killed)
        ):
            time.sleep(0.02)
        assert child.poll() is None, "the stage was over before it could be killed"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert killed.checkpoint(stage).is_file() and not killed.stage_output(stage).exists()
    assert start_child(killed, normal_images).wait() == 0
    for stage in STAGES:
        tensors, expected = (read_tensors(run.stage_output(stage)) for run in (killed, whole))
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert log(killed) == log(whole)
    assert [record["step"] for record in log(killed)] == [*range(40), *range(40)]


def written_so_far(run: RunFolder) -> list[dict]:
    lines = run.log.read_text(encoding="utf-8").splitlines() if run.log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]
