"""Stage 1 step by step: Equation 1 from its parts, who learns, masking, and what follows each gradient step."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import lightning
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from flawmap.paper.clusters import sinkhorn
from flawmap.paper.patch_masking import attention_patch_mask, kept_patches
from flawmap.paper.pretrain import CENTER_MOMENTUM, PretrainModule
from flawmap.paper.self_distillation import update_teacher
from flawmap.recipe.settings import MaskingSettings, PretrainSettings
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.inputs import normalise

pytestmark = pytest.mark.usefixtures("small_heads")

TOTAL_STEPS, STEPS_PER_EPOCH = 6, 2


@pytest.fixture
def module_of(tiny_encoder: Callable[..., Encoder], pretrain_settings) -> Callable[..., PretrainModule]:
    """Makes the module; ``apart`` moves the student away from the teacher, as training would."""

    def make(apart: float = 0.0, drop_path_rate: float = 0.0, **changes: object) -> PretrainModule:
        torch.manual_seed(0)
        settings: PretrainSettings = pretrain_settings(**changes)
        module = PretrainModule(tiny_encoder(0, drop_path_rate), settings, TOTAL_STEPS, STEPS_PER_EPOCH, seed=0)
        with torch.no_grad():
            for parameter in [*module.student_encoder.parameters(), *module.student_head.parameters()]:
                parameter.add_(apart * torch.randn_like(parameter))
        return module.train()

    return make


def masking(**changes: object) -> MaskingSettings:
    return replace(MaskingSettings(), **changes)


class Watching(lightning.Callback):
    """Keeps what ``look`` sees of the module at the end of every step, and first of all before the first."""

    def __init__(self, look: Callable[[PretrainModule], object]) -> None:
        self.look, self.seen = look, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(self.look(pl_module))

    def on_train_end(self, trainer, pl_module):
        self.seen.append(self.look(pl_module))


def copied(network: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


# ---- Equation 1


@pytest.mark.parametrize("strategy", ["none", "attention"])
@pytest.mark.parametrize("center_outputs", [False, True])
def test_loss_is_equation_1_from_its_parts(module_of, views, strategy: str, center_outputs: bool):
    module = module_of(apart=0.05, center_outputs=center_outputs, masking=masking(strategy=strategy))
    batch, tau = views(1), module.settings.temperature
    loss = module.training_step(batch, 0).detach()

    def project(head: torch.nn.Module, cls: Tensor, center: Tensor) -> Tensor:
        z = head.layers(cls) - center
        return z / z.square().sum(dim=1, keepdim=True).sqrt()

    with torch.no_grad():
        C = module.prototypes.weight
        teacher_cls = module.teacher_encoder(normalise(batch["teacher"])).cls
        center = module.teacher_head.layers(teacher_cls).mean(dim=0) if center_outputs else torch.zeros(256)
        y = sinkhorn(project(module.teacher_head, teacher_cls, center) @ C.t(), 0.05, 3)
        total, number = 0.0, 0
        for view in [batch["student_global"], *batch["student_locals"].unbind(1)]:
            x = normalise(view)
            attention = mean_cls_attention(module.teacher_encoder(x))
            keep = kept_patches(attention_patch_mask(attention, 0.3)) if strategy == "attention" else None
            p = (project(module.student_head, module.student_encoder(x, keep=keep).cls, center) @ C.t() / tau).exp()
            p = p / p.sum(dim=1, keepdim=True)
            total -= float((y * p.log()).sum())
            number += len(view)
    assert number == 3 * 4
    assert float(loss) == pytest.approx(total / number, rel=1e-5)
    assert module.record["loss"] == pytest.approx(float(loss))
    assert module.record["uniform_loss"] == pytest.approx(math.log(5))


def test_without_local_views_the_global_one_is_all(module_of, views):
    module = module_of(masking=masking(strategy="none"))
    batch = views(1, num_locals=0)
    targets, _ = module.pseudo_labels(normalise(batch["teacher"]))
    scores = module.student_scores(normalise(batch["student_global"]), masked=False)
    expected = -(targets * (scores / 0.1).log_softmax(dim=1)).sum(dim=1).mean()
    assert float(module.training_step(batch, 0).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_student_head_and_prototypes_learn_and_the_teacher_does_not(module_of, views):
    module = module_of(apart=0.05)
    module.training_step(views(1), 0).backward()
    for network in (module.student_encoder, module.student_head, module.prototypes):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    for network in (module.teacher_encoder, module.teacher_head):
        for name, parameter in network.named_parameters():
            assert parameter.grad is None and not parameter.requires_grad, name
    optimized = {p for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert optimized == {p for p in module.parameters() if p.requires_grad}
    assert optimized.isdisjoint(module.teacher_encoder.parameters())


def test_the_teacher_takes_no_part_in_stochastic_depth(module_of, views):
    module = module_of(drop_path_rate=0.9)
    x = normalise(views(1)["teacher"])
    assert torch.equal(module.pseudo_labels(x)[0], module.pseudo_labels(x)[0])
    assert not torch.equal(module.student_scores(x, masked=False), module.student_scores(x, masked=False))


# ---- masking


def test_pixels_of_dropped_patches_get_no_gradient(module_of, views):
    module = module_of(masking=masking(drop_ratio=0.5))
    x = normalise(views(1)["student_global"]).requires_grad_()
    kept = module.visible_patches(x)
    module.student_scores(x, masked=True).square().sum().backward()
    per_patch = F.avg_pool2d(x.grad.abs().sum(dim=1), 16).flatten(1)
    expected = torch.zeros(4, 16, dtype=torch.bool).scatter(1, kept, True)
    assert torch.equal(per_patch > 0, expected) and kept.shape == (4, 8)


@pytest.mark.parametrize("source", ["teacher", "student", "initial"])
def test_attention_is_taken_from_the_network_that_the_recipe_names(module_of, views, source: str):
    module = module_of(apart=0.1, drop_path_rate=0.5, masking=masking(attention_from=source))
    with torch.no_grad():
        for parameter in module.teacher_encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = normalise(views(1)["student_global"])
    networks = {"teacher": module.teacher_encoder, "student": module.student_encoder}
    if source == "initial":
        networks["initial"] = module.initial_encoder
    with torch.no_grad():  # in evaluation: no block is dropped where attention decides
        by_network = {
            name: kept_patches(attention_patch_mask(mean_cls_attention(copy.deepcopy(network).eval()(x)), 0.3))
            for name, network in networks.items()
        }
    kept = module.visible_patches(x)
    assert module.student_encoder.training and not module.teacher_encoder.training
    assert kept.shape == (4, 12)  # of 16 patches, floor(0.3 * 16) = 4 are dropped
    assert [name for name, expected in by_network.items() if torch.equal(kept, expected)] == [source]


def test_the_initial_network_stays_what_it_was(module_of, views, fit_on):
    module = module_of(masking=masking(attention_from="initial"))
    before = copied(module.initial_encoder)
    fit_on(module, [views(1), views(2)])
    assert all(torch.equal(a, b) for a, b in zip(before, module.initial_encoder.parameters(), strict=True))
    assert module_of(masking=masking(attention_from="teacher")).initial_encoder is None


def test_random_masks_depend_on_seed_step_and_kind_of_view(module_of, views, monkeypatch):
    module = module_of(masking=masking(strategy="random", drop_ratio=0.5))
    x = normalise(torch.cat([views(1)["student_global"]] * 8))
    kept = module.visible_patches(x)
    assert kept.shape == (32, 8) and torch.equal(kept, kept.sort(dim=1).values)
    assert len({tuple(row) for row in kept.tolist()}) > 20  # each image has its own
    assert torch.equal(module.visible_patches(x), kept)
    assert not torch.equal(module.visible_patches(x[:31]), kept[:31])
    monkeypatch.setattr(PretrainModule, "global_step", 1)
    assert not torch.equal(module.visible_patches(x), kept)
    module.seed, module_step_0 = 1, kept
    monkeypatch.setattr(PretrainModule, "global_step", 0)
    assert not torch.equal(module.visible_patches(x), module_step_0)


@pytest.mark.parametrize("changes", [{"strategy": "none"}, {"drop_ratio": 0.0}])
def test_nothing_is_masked_where_nothing_should_be(module_of, views, changes: dict):
    module = module_of(masking=masking(**changes))
    assert module.visible_patches(normalise(views(1)["student_global"])) is None


def test_local_views_are_masked_only_if_asked(module_of, views, monkeypatch):
    for mask_local_views, expected in ((True, [(4, 64), (8, 32)]), (False, [(4, 64)])):
        module = module_of(masking=masking(mask_local_views=mask_local_views))
        seen = []
        original = module.visible_patches
        monkeypatch.setattr(
            module,
            "visible_patches",
            lambda x, seen=seen, look=original: (seen.append((len(x), x.shape[-1])), look(x))[1],
        )
        module.training_step(views(1), 0)
        assert seen == expected


# ---- after each gradient step


def test_prototypes_lie_on_the_unit_sphere_after_every_step_and_move(module_of, views, fit_on):
    module = module_of(learning_rate=0.1, warmup_epochs=0.0)
    watching = Watching(lambda m: m.prototypes.weight.detach().clone())
    fit_on(module, [views(seed) for seed in range(3)], watching)
    for before, after in zip(watching.seen, watching.seen[1:], strict=False):
        torch.testing.assert_close(after.norm(dim=1), torch.ones(5))
        assert not torch.equal(before, after)


def test_the_teacher_is_the_moving_average_of_the_student(module_of, views, fit_on):
    module = module_of(learning_rate=0.01, warmup_epochs=0.0, teacher_momentum=0.9)
    watching = Watching(
        lambda m: (
            copied(m.student_encoder) + copied(m.student_head),
            copied(m.teacher_encoder) + copied(m.teacher_head),
        )
    )
    fit_on(module, [views(seed) for seed in range(3)], watching)
    _, average = watching.seen[0]
    for step, (student, teacher) in enumerate(watching.seen[1:]):
        # a cosine from 0.9 at the first of six steps to 1 at the last
        momentum = 1 - 0.1 * (1 + math.cos(math.pi * step / 5)) / 2
        average = [momentum * of_teacher + (1 - momentum) * s for of_teacher, s in zip(average, student, strict=True)]
        for expected, actual in zip(average, teacher, strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)
    assert any(not torch.allclose(a, b) for a, b in zip(watching.seen[0][1], watching.seen[-1][1], strict=True))


def test_update_teacher_closed_form():
    teacher, student = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with torch.no_grad():
        for network, value in ((teacher, 1.0), (student, 3.0)):
            for parameter in network.parameters():
                parameter.fill_(value)
    update_teacher(teacher, student, 0.75)
    assert [parameter.item() for parameter in teacher.parameters()] == [1.5, 1.5]
    assert [parameter.item() for parameter in student.parameters()] == [3.0, 3.0]


def test_the_center_is_a_running_mean_that_starts_with_the_first_batch(module_of, views):
    module = module_of(center_outputs=True)
    batches = [normalise(views(seed)["teacher"]) for seed in range(3)]
    with torch.no_grad():
        means = [module.teacher_head.layers(module.teacher_encoder(x).cls).mean(dim=0) for x in batches]
    assert module.center.abs().sum() == 0
    expected = means[0]
    for x, mean in zip(batches, means, strict=True):
        if mean is not means[0]:
            expected = CENTER_MOMENTUM * expected + (1 - CENTER_MOMENTUM) * mean
        module.pseudo_labels(x)
        torch.testing.assert_close(module.center, expected, atol=1e-6, rtol=1e-5)


def test_without_centring_the_center_stays_zero(module_of, views):
    module = module_of(center_outputs=False)
    module.training_step(views(1), 0)
    assert module.center.abs().sum() == 0


def test_centring_spreads_the_scores_of_images_that_are_alike(module_of, views):
    """What starts the pretext on one category, whose outputs are nearly equal."""
    one = views(1)["teacher"][:1].clamp(8, 247) + (views(2)["teacher"] % 8)  # alike but for some noise
    spreads = {}
    for center_outputs in (False, True):
        spreads[center_outputs] = module_of(center_outputs=center_outputs).pseudo_labels(normalise(one))[1]
    assert spreads[True] > 5 * spreads[False]
