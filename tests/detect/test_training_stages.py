"""Both stages in a row: what determines a result, who shares it, and mistakes that are the user's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flawmap.detect.fit import Fitted, fit_scorer
from flawmap.engine.compute import Compute
from flawmap.engine.tensor_files import read_tensors
from flawmap.errors import UserError
from flawmap.paper import fit as paper_fit
from flawmap.paper.finetune import FinetuneModule
from flawmap.paper.pretrain import PretrainModule
from flawmap.vit.weights import load_encoder

pytestmark = pytest.mark.usefixtures("small_heads")

# ---- results


def test_a_run_with_the_same_stage_1_reuses_it_and_says_so(normal_images, tiny_recipe, new_run, cpu, capsys):
    first, second = new_run("first"), new_run("second")
    one = fit_scorer(normal_images, tiny_recipe, first, cpu)
    assert "reused" not in capsys.readouterr().err
    other = replace(tiny_recipe, finetune=replace(tiny_recipe.finetune, learning_rate=1e-3))
    two = fit_scorer(normal_images, other, second, cpu)
    shared = first.shared_stage("pretrain", one.stage_keys["pretrain"])
    printed = capsys.readouterr().err
    assert f"pretrain   reused, the same as in an earlier run: {shared}\n" in printed
    assert printed.count("reused") == 1
    stages = [json.loads(line)["stage"] for line in second.log.read_text(encoding="utf-8").splitlines()]
    assert stages == ["finetune"] * 4
    for name, tensor in read_tensors(first.stage_output("pretrain")).items():
        assert torch.equal(read_tensors(second.stage_output("pretrain"))[name], tensor)
        assert torch.equal(two.guide.state_dict()[name], tensor)
    assert one.scorer is not None and two.scorer is not None
    assert not torch.equal(one.scorer.aggregation.weight, two.scorer.aggregation.weight)
    shared.unlink()  # a run keeps its own copy
    fit_scorer(normal_images, other, second, cpu)
    assert f"pretrain   already done: {second.stage_output('pretrain')}" in capsys.readouterr().err


def test_a_finished_run_gives_its_result_again_without_a_step(normal_images, tiny_recipe, new_run, cpu, monkeypatch):
    run = new_run("run")
    first = fit_scorer(normal_images, tiny_recipe, run, cpu)
    monkeypatch.setattr(paper_fit, "train", lambda *_: pytest.fail("a step was made"))
    again = fit_scorer(normal_images, tiny_recipe, run, cpu)
    for name, tensor in first.scorer.state_dict().items():
        assert torch.equal(again.scorer.state_dict()[name], tensor)
    assert not first.scorer.training and not again.scorer.training


def test_stages_one_after_the_other_equal_both_at_once(normal_images, tiny_recipe, new_run, cpu):
    once, split = new_run("once", "one shelf"), new_run("split", "another shelf")
    expected = fit_scorer(normal_images, tiny_recipe, once, cpu)
    first = fit_scorer(normal_images, tiny_recipe, split, cpu, stages="pretrain")
    assert first.scorer is None and not split.stage_output("finetune").exists()
    second = fit_scorer(normal_images, tiny_recipe, split, cpu, stages="finetune")
    for name, tensor in expected.scorer.state_dict().items():
        assert torch.equal(second.scorer.state_dict()[name], tensor)


def test_stage_2_starts_from_the_teacher_and_leaves_the_guide_as_it_is(normal_images, tiny_recipe, new_run, cpu):
    recipe = replace(
        tiny_recipe,
        pretrain=replace(tiny_recipe.pretrain, teacher_momentum=0.5),
        finetune=replace(tiny_recipe.finetune, learning_rate=1e-7),  # so that stage 2 stays where it starts
    )
    run = new_run("run")
    trained: Fitted = fit_scorer(normal_images, recipe, run, cpu)
    teacher = read_tensors(run.stage_output("pretrain"))
    initial = load_encoder(recipe.model, seed=recipe.seed)[0].state_dict()
    assert sum(not torch.allclose(teacher[name], initial[name], atol=1e-5) for name in initial) > 50
    tuned, guide = trained.scorer.encoder.state_dict(), trained.guide.state_dict()
    assert all(torch.equal(guide[name], teacher[name]) for name in teacher)
    assert all(torch.allclose(tuned[name], teacher[name], atol=1e-6) for name in teacher)
    assert any(not torch.equal(tuned[name], teacher[name]) for name in teacher)
    assert not any(p.requires_grad for p in trained.guide.parameters()) and not trained.guide.training


def test_training_writes_into_its_run_and_the_shelf_alone(
    normal_images, tiny_recipe, new_run, cpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run = new_run("run")
    fit_scorer(normal_images, tiny_recipe, run, cpu, save_every_seconds=0.0)
    assert list((tmp_path / "here").iterdir()) == []
    written = sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file())
    results = [
        f"checkpoints/{stage}{ending}" for stage in ("finetune", "pretrain") for ending in (".json", ".safetensors")
    ]
    assert written == [*results, "log.jsonl", "recipe.yaml"]
    assert len(list((run.path.parent / "stages").iterdir())) == 4


def test_bf16_trains_weights_that_stay_in_float32(normal_images, tiny_recipe, new_run):
    trained = fit_scorer(normal_images, tiny_recipe, new_run("run"), Compute("cpu", "bf16", ""))
    assert {tensor.dtype for tensor in trained.scorer.state_dict().values()} == {torch.float32}


# ---- mistakes


def test_stage_2_alone_needs_stage_1(normal_images, tiny_recipe, new_run, cpu):
    run = new_run("run")
    with pytest.raises(UserError) as caught:
        fit_scorer(normal_images, tiny_recipe, run, cpu, stages="finetune")
    assert caught.value.problem == "stage 1 of this recipe is not finished"
    assert caught.value.place == str(run.path) and caught.value.remedy == "flawmap train --stage all"


def test_stage_1_alone_must_not_be_switched_off(normal_images, tiny_recipe, new_run, cpu):
    recipe = replace(tiny_recipe, pretrain=replace(tiny_recipe.pretrain, enabled=False))
    with pytest.raises(UserError) as caught:
        fit_scorer(normal_images, recipe, new_run("run"), cpu, stages="pretrain")
    assert caught.value.problem == "stage 1 is switched off in this recipe (pretrain.enabled is false)"
    assert caught.value.place == "--stage pretrain"
    assert caught.value.remedy == "--set pretrain.enabled=true, or --stage all"


@pytest.mark.parametrize(
    ("number", "devices", "problem", "remedy"),
    [
        (1, 1, "1 training image for 1 device", "at least 2 are needed to train"),
        (0, 1, "0 training images for 1 device", "at least 2 are needed to train"),
        (3, 4, "3 training images for 4 devices", "at least 4 are needed to train"),
    ],
)
def test_too_few_images(normal_images, tiny_recipe, new_run, number: int, devices: int, problem: str, remedy: str):
    with pytest.raises(UserError) as caught:
        fit_scorer(normal_images[:number], tiny_recipe, new_run("run"), Compute("cpu", "fp32", "", devices))
    assert (caught.value.problem, caught.value.remedy) == (problem, remedy)


def test_fewer_images_than_a_batch_are_one_batch_per_epoch(normal_images, tiny_recipe, new_run, cpu):
    run = new_run("run")
    fit_scorer(normal_images[:3], tiny_recipe, run, cpu, stages="pretrain")
    records = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    assert [(record["step"], record["epoch"], record["steps"]) for record in records] == [(0, 0, 2), (1, 1, 2)]


@pytest.mark.parametrize("module", [PretrainModule, FinetuneModule])
def test_out_of_memory_is_the_users_error(normal_images, tiny_recipe, new_run, cpu, monkeypatch, module: type):
    def too_much(*_: object) -> None:
        torch.empty(2**46, dtype=torch.float64)  # more than any machine has

    monkeypatch.setattr(module, "training_step", too_much)
    with pytest.raises(UserError) as caught:
        fit_scorer(normal_images, tiny_recipe, new_run("run"), cpu)
    stage, sizes = ("pretrain", "data") if module is PretrainModule else ("finetune", "finetune")
    assert caught.value.problem == "out of memory with batches of 4 images of 32 px"
    assert caught.value.place == f"stage {stage}"
    assert caught.value.remedy == f"--set {stage}.batch_size=2, or --set {sizes}.image_size_px=SMALLER"


def test_collapse_stops_a_stage_with_a_remedy(normal_images, tiny_recipe, new_run, cpu):
    """With the softest targets there are, nothing is assigned to anything."""
    settings = replace(tiny_recipe.pretrain, epochs=15, sinkhorn_epsilon=1.0, center_outputs=False)
    run = new_run("run")
    with pytest.raises(UserError) as caught:
        fit_scorer(normal_images, replace(tiny_recipe, pretrain=settings), run, cpu)
    assert caught.value.problem.startswith("pre-training has collapsed: the clusters' targets are uniform")
    assert caught.value.place == "stage pretrain, step 19"
    assert "pretrain.sinkhorn_epsilon=0.005" in caught.value.remedy
    assert not run.stage_output("pretrain").exists()
