"""Two processes that share every batch, as two GPUs would: the same training as one process's."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flawmap.data.sample import NormalImage
from flawmap.detect.fit import fit_scorer
from flawmap.engine.compute import Compute
from flawmap.engine.stage import Stage, StageContext
from flawmap.engine.tensor_files import read_tensors
from flawmap.engine.training import TrainingPlan
from flawmap.engine.training import train as train_module
from flawmap.errors import UserError
from flawmap.paper.pretrain import PretrainModule
from flawmap.recipe.settings import ModelSettings, PretrainSettings, Recipe
from flawmap.runs.run_folder import RunFolder
from flawmap.vit.weights import load_encoder
from objectives_in_processes import BATCH, IMAGES, STEPS, PlainDescent, RandomViews

ONE, TWO = Compute("cpu", "fp32", ""), Compute("cpu", "fp32", "", devices=2)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_heads")]  # each stage starts two Python processes


class PlainPretrain(PlainDescent, PretrainModule):
    """Ours, with plain descent."""


class StopsAtTwo(PlainPretrain):
    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        if self.global_step == 2:
            raise UserError("something is wrong", "stage pretrain, step 2", "--set it.right=true")
        return super().training_step(batch, number)


def module_of(kind: type[PretrainModule]) -> PretrainModule:
    torch.manual_seed(0)
    faster = {"learning_rate": 0.1, "warmup_learning_rate": 0.1, "teacher_momentum": 0.5}
    settings = PretrainSettings(
        batch_size=BATCH, local_views=2, local_size_px=32, prototypes=5, center_outputs=True, **faster
    )
    encoder, _ = load_encoder(ModelSettings("random", "test_vit"))
    return kind(encoder, settings, STEPS, steps_per_epoch=2, seed=0)


def describe(record: dict[str, float]) -> str:
    return f"loss {record['loss']}"


def fitted(module: PretrainModule, plan: TrainingPlan, stage: Stage) -> dict[str, Tensor]:
    train_module(module, RandomViews(), IMAGES, plan, stage, describe)
    return module.result_encoder.state_dict()


def train(kind: type[PretrainModule], run: RunFolder, compute: Compute) -> PretrainModule:
    module = module_of(kind)
    stage = StageContext(run, compute, 0, 64, {}, save_every_seconds=0.0).training_stage("pretrain")
    plan = TrainingPlan(STEPS, 2, BATCH)
    stage.result(lambda: fitted(module, plan, stage), BATCH)
    return module


def test_half_batches_in_two_processes_give_the_weights_of_whole_ones_also_after_a_resume(new_run):
    alone = train(PlainPretrain, new_run("alone"), ONE)
    run = new_run("together")
    with pytest.raises(UserError) as caught:
        train(StopsAtTwo, run, TWO)
    # what a process found wrong is the user's to read
    assert caught.value.problem == "something is wrong"
    assert (caught.value.place, caught.value.remedy) == ("stage pretrain, step 2", "--set it.right=true")
    assert run.checkpoint("pretrain").is_file()
    together = train(PlainPretrain, run, TWO)
    initial = module_of(PlainPretrain).state_dict()
    for name, expected in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], expected, atol=1e-5, rtol=1e-5, msg=name)
    moved = [name for name in initial if (alone.state_dict()[name] - initial[name]).abs().max() > 1e-4]
    assert {name.split(".")[0] for name in moved} >= {
        "student_encoder",
        "student_head",
        "teacher_encoder",
        "teacher_head",
        "prototypes",
        "center",
    }
    steps = [json.loads(line)["step"] for line in run.log.read_text(encoding="utf-8").splitlines()]
    assert steps == [0, 1, 2, 3]  # written by the first process alone


def test_both_stages_in_two_processes_reach_the_parent_and_its_files(
    normal_images: tuple[NormalImage, ...], tiny_recipe: Recipe, new_run
):
    run = new_run("run")
    trained = fit_scorer(normal_images, replace(tiny_recipe, seed=3), run, TWO)
    initial, _ = load_encoder(tiny_recipe.model, seed=3)
    teacher, scorer = (read_tensors(run.stage_output(stage)) for stage in ("pretrain", "finetune"))
    assert any(not torch.equal(teacher[name], tensor) for name, tensor in initial.state_dict().items())
    assert all(torch.equal(scorer[name], tensor) for name, tensor in trained.scorer.state_dict().items())
    moved = [name for name in teacher if not torch.equal(scorer[f"encoder.{name}"], teacher[name])]
    assert len(moved) > 50
    records = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    assert [(r["stage"], r["step"]) for r in records] == [(s, n) for s in ("pretrain", "finetune") for n in range(4)]
    for stage in ("pretrain", "finetune"):
        about = json.loads(run.stage_output(stage).with_suffix(".json").read_text(encoding="utf-8"))
        assert about["last"] == [record for record in records if record["stage"] == stage][-1]
