"""The compared objectives in the same loop: their losses from their parts, who learns, who follows, what is resumed."""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from flawmap.detect.fit import fit_scorer
from flawmap.errors import UserError
from flawmap.paper import objectives
from flawmap.paper.clusters import sinkhorn
from flawmap.paper.collapse_watch import WINDOW_STEPS
from flawmap.paper.objectives import objective_by_name
from flawmap.paper.self_distillation import SelfDistillation
from flawmap.recipe.settings import MaskingSettings, PretrainSettings
from flawmap.vit.inputs import normalise
from flawmap.vit.weights import load_encoder
from flawmap_bench.objectives import msn
from flawmap_bench.objectives.dino import DistillationHead

pytestmark = pytest.mark.usefixtures("small_heads")

TOTAL_STEPS, STEPS_PER_EPOCH = 6, 2
OTHERS = ["dino", "swav", "ibot", "msn"]
OBJECTIVES = ["clusters", *OTHERS]
OUTPUTS = {"clusters": 5, "dino": 12, "swav": 5, "ibot": 12, "msn": 6}
BY_SETTING = ("clusters", "swav")  # recipe setting prototypes; the others have an argument


@pytest.fixture(autouse=True)
def small_msn_head(monkeypatch: pytest.MonkeyPatch, small_heads: None) -> None:
    monkeypatch.setattr(msn, "HIDDEN_DIM", 32)


@pytest.fixture
def module_of(tiny_encoder, pretrain_settings) -> Callable[..., SelfDistillation]:
    """Makes the module; ``apart`` moves the student away from the teacher, as training would."""

    def make(objective: str, apart: float = 0.0, total_steps: int = TOTAL_STEPS, **changes: object) -> SelfDistillation:
        torch.manual_seed(0)
        settings = pretrain_settings(objective=objective, **changes)
        option = {} if objective in BY_SETTING else {"num_outputs": OUTPUTS[objective]}
        module = objective_by_name(objective)(tiny_encoder(), settings, total_steps, STEPS_PER_EPOCH, seed=0, **option)
        with torch.no_grad():
            for network in module.learners():
                for parameter in network.parameters():
                    parameter.add_(apart * torch.randn_like(parameter))
        return module.train()

    return make


def unit(rows: Tensor) -> Tensor:
    return rows / rows.square().sum(dim=-1, keepdim=True).sqrt()


def cross_entropy(targets: Tensor, logits: Tensor, temperature: float = 0.1) -> Tensor:
    """Of each row."""
    exponentials = (logits / temperature).exp()
    return -(targets * (exponentials / exponentials.sum(dim=-1, keepdim=True)).log()).sum(dim=-1)


def crops_of(batch: dict[str, Tensor]) -> list[Tensor]:
    """Teacher's view, student's global one, local ones."""
    return [normalise(x) for x in (batch["teacher"], batch["student_global"], *batch["student_locals"].unbind(1))]


def distilled(head: DistillationHead, tokens: Tensor) -> Tensor:
    """DINO's head, written out."""
    directions = unit(head.last_layer.directions)
    return unit(head.projection.layers(tokens)) @ directions.t() * head.last_layer.norms[:, 0]


# ---- the loss


@torch.no_grad()
@pytest.mark.parametrize("num_locals", [0, 2])
def test_dino_is_its_formula_over_pairs_of_different_views(module_of, views, num_locals: int):
    module, batch = module_of("dino", apart=0.05), views(1, num_locals=num_locals)
    module.center.copy_(0.1 * torch.randn(12))
    center, crops = module.center.clone(), crops_of(batch)
    teacher = [distilled(module.teacher_head, module.teacher_encoder(x).cls) for x in crops[:2]]
    student = [distilled(module.student_head, module.student_encoder(x).cls) for x in crops]
    pairs = [
        cross_entropy(((v - center) / 0.04).softmax(dim=1), u).mean()
        for t, v in enumerate(teacher)
        for s, u in enumerate(student)
        if s != t
    ]
    assert len(pairs) == 2 * (num_locals + 1)
    assert float(module.training_step(batch, 0)) == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-4)
    expected = 0.9 * center + 0.1 * torch.cat(teacher).mean(dim=0)  # only after the targets were made
    torch.testing.assert_close(module.center, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_swav_is_its_formula_with_the_students_own_assignments(module_of, views):
    module, batch = module_of("swav", apart=0.05, sinkhorn_epsilon=0.02), views(1)
    scores = [
        unit(module.student_head.layers(module.student_encoder(x).cls)) @ module.prototypes.weight.t()
        for x in crops_of(batch)
    ]
    pairs = [cross_entropy(sinkhorn(scores[t], 0.02, 3), scores[s]) for t in range(2) for s in range(4) if s != t]
    assert float(module.training_step(batch, 0)) == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-4)


@torch.no_grad()
def test_ibot_is_dino_and_the_masked_patches_of_the_same_view(module_of, views):
    module, batch = module_of("ibot", apart=0.05), views(1)
    for center in (module.center, module.patch_center):
        center.copy_(0.1 * torch.randn(12))
    module.mask_token.copy_(torch.randn_like(module.mask_token))
    center, patch_center, crops = module.center.clone(), module.patch_center.clone(), crops_of(batch)
    masks = module.hidden_patches(torch.cat(crops[:2])).unflatten(0, (2, 4))
    seen = [module.teacher_encoder(x, patch_tokens=True) for x in crops[:2]]
    own = [
        module.student_encoder(x, patch_tokens=True, mask=mask, mask_token=module.mask_token)
        for x, mask in zip(crops[:2], masks, strict=True)
    ] + [module.student_encoder(x) for x in crops[2:]]
    cls_pairs = [
        cross_entropy(
            ((distilled(module.teacher_head, seen[t].cls) - center) / 0.04).softmax(dim=1),
            distilled(module.student_head, own[s].cls),
        ).mean()
        for t in range(2)
        for s in range(4)
        if s != t
    ]
    patch_terms, all_patches = [], []
    for t in range(2):
        for image in range(4):
            logits = distilled(module.teacher_head, seen[t].patch_tokens[image])
            all_patches.append(logits)
            losses = cross_entropy(
                ((logits - patch_center) / 0.04).softmax(dim=1),
                distilled(module.student_head, own[t].patch_tokens[image]),
            )
            patch_terms.append(sum((losses[i] for i in masks[t, image].nonzero()[:, 0]), torch.tensor(0.0)))
            patch_terms[-1] = patch_terms[-1] / max(1, int(masks[t, image].sum()))
    expected = torch.stack(cls_pairs).mean() + torch.stack(patch_terms).mean()
    assert float(module.training_step(batch, 0)) == pytest.approx(float(expected), rel=1e-4)
    moved = 0.9 * patch_center + 0.1 * torch.cat(all_patches).mean(dim=0)  # masked or not
    torch.testing.assert_close(module.patch_center, moved, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_msn_is_its_formula_with_a_masked_global_and_whole_local_anchors(module_of, views):
    module, batch = module_of("msn", apart=0.05), views(1)
    target, view, *others = crops_of(batch)
    directions = unit(module.prototypes.weight)

    def predictions(embeddings: Tensor) -> Tensor:
        return (unit(embeddings) @ directions.t() / 0.1).softmax(dim=1)

    sharp = predictions(module.teacher_head.layers(module.teacher_encoder(target).cls)) ** 4
    y = sinkhorn((sharp / sharp.sum(dim=1, keepdim=True)).log(), 1.0, 3)
    keep = module.kept_of_anchor(view)
    cls = [module.student_encoder(view, keep=keep).cls, *(module.student_encoder(x).cls for x in others)]
    p = torch.stack([predictions(module.student_head.layers(c)) for c in cls])
    mean = p.mean(dim=(0, 1))
    expected = -(y * p.log()).sum(dim=-1).mean() + math.log(6) + (mean * mean.log()).sum()
    assert float(module.training_step(batch, 0)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("objective", OTHERS)
def test_what_concerns_ours_alone_changes_nothing_in_the_others(module_of, views, objective: str):
    ours_alone = {"center_outputs": True, "masking": MaskingSettings(strategy="random", drop_ratio=0.8)}
    losses = [module_of(objective, **changes).training_step(views(1), 0).detach() for changes in ({}, ours_alone)]
    assert torch.equal(*losses)


# ---- who learns and who follows


@pytest.mark.parametrize("objective", OTHERS)
def test_gradients_reach_everything_that_is_trained_and_nothing_else(module_of, views, objective: str):
    module = module_of(objective, apart=0.05)
    module.training_step(views(1), 0).backward()
    optimized = {p for group in module.configure_optimizers().param_groups for p in group["params"]}
    for name, parameter in module.named_parameters():
        is_teachers = name.startswith("teacher_")
        assert parameter.requires_grad != is_teachers and (parameter in optimized) != is_teachers, name
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) != is_teachers, name


@pytest.mark.parametrize("objective", OTHERS)
def test_the_teacher_averages_the_student_and_is_the_result_except_in_swav(module_of, views, fit_on, objective: str):
    module = module_of(objective, learning_rate=0.01, warmup_epochs=0.0, teacher_momentum=0.75)
    names = [name for name, _ in module.named_children() if name.startswith("teacher_")]
    before = {name: [p.detach().clone() for p in getattr(module, name).parameters()] for name in names}
    fit_on(module, [views(1)])
    assert names == ([] if objective == "swav" else ["teacher_encoder", "teacher_head"])
    assert module.result_encoder is (module.student_encoder if objective == "swav" else module.teacher_encoder)
    for name in names:
        student = getattr(module, name.replace("teacher", "student"))
        moved = 0.0
        for old, new, own in zip(before[name], getattr(module, name).parameters(), student.parameters(), strict=True):
            torch.testing.assert_close(new, 0.75 * old + 0.25 * own, atol=1e-6, rtol=1e-5)
            moved += float((new - old).detach().abs().sum())
        assert moved > 0


@pytest.mark.parametrize("objective", ["swav", "msn"])
def test_only_swavs_prototypes_return_to_the_sphere(module_of, views, fit_on, objective: str):
    module = module_of(objective, learning_rate=0.1, warmup_epochs=0.0)
    before = module.prototypes.weight.detach().clone()
    fit_on(module, [views(1)])
    after = module.prototypes.weight.detach()
    assert not torch.equal(before, after)
    assert torch.allclose(after.norm(dim=1), torch.ones(len(after))) == (objective == "swav")


@pytest.mark.parametrize("objective", ["dino", "ibot"])
def test_the_last_layer_waits_for_an_epoch_while_the_rest_learns(module_of, views, fit_on, objective: str):
    for steps, waits in ((2, True), (3, False)):
        module = module_of(objective, learning_rate=0.01, warmup_epochs=0.0)
        last = [p.detach().clone() for p in module.student_head.last_layer.parameters()]
        first = module.student_head.projection.layers[0].weight.detach().clone()
        fit_on(module, [views(seed) for seed in range(steps)])
        assert not torch.equal(first, module.student_head.projection.layers[0].weight)
        same = [torch.equal(a, b) for a, b in zip(last, module.student_head.last_layer.parameters(), strict=True)]
        assert same == [waits, waits]
    assert module_of(objective, total_steps=2).last_layer_frozen == 0  # a third of two steps


@pytest.mark.parametrize(("total_steps", "warmup"), [(600, 60), (6000, 60), (60, 6), (4, 0)])
def test_the_teachers_temperature_rises_for_30_epochs_or_a_tenth_of_training(
    module_of, monkeypatch, total_steps: int, warmup: int
):
    module = module_of("dino", total_steps=total_steps)
    seen = []
    for step in (0, warmup // 2, warmup, total_steps - 1):
        monkeypatch.setattr(SelfDistillation, "global_step", step, raising=False)
        seen.append(module.teacher_temperature)
    assert seen == pytest.approx([0.04, 0.055, 0.07, 0.07] if warmup else [0.07] * 4)


# ---- masks


def test_ibot_hides_blocks_of_its_own_size_in_half_of_the_crops(module_of, views, monkeypatch):
    module, x = module_of("ibot"), torch.zeros(24, 3, 160, 160)
    mask = module.hidden_patches(x)
    counts = mask.sum(dim=1)
    assert mask.shape == (24, 100) and int((counts > 0).sum()) == 12
    hidden = counts[counts > 0]
    assert hidden.min() >= 10 and hidden.max() <= 50 and len(hidden.unique()) > 4
    assert module.hidden_patches(torch.zeros(4, 3, 32, 32)).sum(dim=1).sort().values.tolist()[:2] == [0, 0]
    assert int((module.hidden_patches(torch.zeros(4, 3, 32, 32)).sum(dim=1) > 0).sum()) == 2  # 10 % of 4 is none
    assert torch.equal(module.hidden_patches(x), mask)
    monkeypatch.setattr(SelfDistillation, "global_step", 1, raising=False)
    assert not torch.equal(module.hidden_patches(x), mask)


def test_msn_drops_15_percent_of_each_anchor_on_its_own(module_of):
    keep = module_of("msn").kept_of_anchor(torch.zeros(8, 3, 160, 160))
    assert keep.shape == (8, 85) and len({tuple(row) for row in keep.tolist()}) == 8
    assert all(len(set(row)) == 85 for row in keep.tolist())


# ---- learning, and the lack of it


def two_kinds(seed: int) -> dict[str, Tensor]:
    """Views of eight images: four with dark columns, four with bright rows; no two alike."""
    generator = torch.Generator().manual_seed(seed)

    def view(side: int, *more: int) -> Tensor:
        wave = 60 * torch.sign(torch.sin(torch.arange(side) * 0.4))
        kinds = torch.stack([(wave - 60).expand(side, side), (wave[:, None] + 60).expand(side, side)])
        images = 128 + kinds.repeat_interleave(4, 0).view(8, *[1] * len(more), 1, side, side)
        noise = 10 * torch.randn(8, *more, 3, side, side, generator=generator)
        return (images + noise).clamp(0, 255).to(torch.uint8)

    return {"teacher": view(64), "student_global": view(64), "student_locals": view(32, 2)}


@pytest.mark.parametrize("objective", OTHERS)
def test_some_tens_of_steps_on_two_kinds_of_images_beat_a_collapsed_model(module_of, fit_on, objective: str):
    module = module_of(
        objective,
        total_steps=40,
        learning_rate=2e-3,
        warmup_epochs=1.0,
        teacher_momentum=0.9,
        sinkhorn_epsilon=0.02,
    )
    fit_on(module, [two_kinds(seed) for seed in range(40)])
    assert module.record["loss"] < 0.85 * module.record["uniform_loss"]
    assert module.record["target_entropy"] < 0.9 * math.log(OUTPUTS[objective])
    cls = module.result_encoder.eval()(normalise(two_kinds(99)["teacher"])).cls.detach()
    distances = torch.cdist(cls, cls)
    assert distances[:4, :4].max() < distances[:4, 4:].min()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_collapse_stops_ours_and_is_said_once_and_recorded_of_the_others(module_of, capsys, objective: str):
    module, k = module_of(objective), OUTPUTS[objective]
    uniform = torch.full((4, k), 1 / k)
    record = module.watch.observe(0, torch.tensor(1.0), uniform, torch.tensor(0.0))
    expected = 1.5 * math.log(k) if objective == "ibot" else math.log(k)  # half of the crops have a patch loss, too
    assert record["uniform_loss"] == pytest.approx(expected) and record["collapsed"] is False

    def continue_stage() -> None:
        for step in range(1, 3 * WINDOW_STEPS):
            record.update(module.watch.observe(step, torch.tensor(1.0), uniform, torch.tensor(0.0)))

    if objective == "clusters":
        with pytest.raises(UserError, match="has collapsed") as caught:
            continue_stage()
        assert "center_outputs=true" in caught.value.remedy and "sinkhorn_epsilon=0.005" in caught.value.remedy
    else:
        continue_stage()
        assert record["collapsed"] is True
        assert capsys.readouterr().err.count("has collapsed") == 1


@torch.no_grad()
def test_predictions_that_say_nothing_cost_ibot_its_uniform_loss(module_of, views):
    module = module_of("ibot")
    module.student_head.last_layer.norms.zero_()
    loss = module.training_step(views(1), 0)
    assert float(loss) == pytest.approx(module.record["uniform_loss"], rel=1e-5)


# ---- choosing, resuming, the whole stage


def test_every_objective_is_found_by_its_name_and_ours_is_the_default():
    assert PretrainSettings().objective == "clusters"
    assert {name: objective_by_name(name).__name__ for name in OBJECTIVES} == {
        "clusters": "PretrainModule",
        "dino": "DinoModule",
        "swav": "SwavModule",
        "ibot": "IbotModule",
        "msn": "MsnModule",
    }


def test_an_unknown_objective_is_a_mistake_in_the_recipe(tiny_encoder, pretrain_settings):
    with pytest.raises(UserError, match="'byol'") as caught:
        objective_by_name("byol")
    assert caught.value.place == "pretrain.objective"
    assert all(name in caught.value.remedy for name in (*OBJECTIVES, "flawmap-bench"))


def test_an_objective_of_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(objectives, "plugin_names", lambda group: ())
    monkeypatch.setattr(objectives, "load_plugin", lambda group, name: None)
    with pytest.raises(UserError) as caught:
        objective_by_name("dino")
    assert caught.value.remedy.startswith("choose clusters;") and "flawmap-bench" in caught.value.remedy


@torch.no_grad()
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_resumed_module_goes_on_where_the_other_one_stopped(module_of, views, objective: str):
    module = module_of(objective, apart=0.05, center_outputs=True)
    for seed in range(3):
        module.training_step(views(seed), 0)
    checkpoint: dict = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    other = module_of(objective, center_outputs=True)
    other.load_state_dict(checkpoint["state_dict"])
    other.on_load_checkpoint(checkpoint)
    centers = [name for name, _ in module.named_buffers() if "center" in name]
    assert centers == {"swav": [], "msn": [], "ibot": ["center", "patch_center"]}.get(objective, ["center"])
    assert all(other.get_buffer(name).abs().sum() > 0 for name in centers)
    assert other.watch.state()["entropies"] == module.watch.state()["entropies"] != []
    assert torch.equal(module.training_step(views(9), 0), other.training_step(views(9), 0))
    assert other.record == module.record


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_stage_runs_with_every_objective(normal_images, tiny_recipe, new_run, cpu, objective: str):
    settings = replace(tiny_recipe.pretrain, objective=objective, epochs=None, steps=2)
    run = new_run("run")
    trained = fit_scorer(normal_images, replace(tiny_recipe, pretrain=settings), run, cpu, stages="pretrain")
    records = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    k = {"dino": 4096, "ibot": 4096, "msn": 64}.get(objective, 4)
    assert [record["step"] for record in records] == [0, 1]
    for record in records:
        assert record["uniform_loss"] == pytest.approx((1.5 if objective == "ibot" else 1) * math.log(k))
        assert 0 < record["target_entropy"] <= math.log(k) + 1e-4 and record["loss"] > 0
        assert 1 <= record["prototypes_used_recently"] <= k
    initial, _ = load_encoder(tiny_recipe.model, seed=tiny_recipe.seed)
    moved = F.pairwise_distance(
        *(torch.cat([p.detach().flatten() for p in e.parameters()])[None] for e in (trained.guide, initial))
    )
    assert float(moved) > 1e-4
