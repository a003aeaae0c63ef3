"""Parameter groups, rates and clipping of both stages; losses that are not numbers; collapse."""

import math
from collections.abc import Callable

import lightning
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flawmap.engine.optimisation import check_finite, clip_each_gradient, decay_groups, set_rates
from flawmap.errors import UserError
from flawmap.paper.collapse_watch import WINDOW_STEPS, CollapseWatch
from flawmap.paper.finetune import FinetuneModule
from flawmap.paper.heads import PaperHead
from flawmap.paper.pretrain import PretrainModule
from flawmap.recipe.settings import FinetuneSettings

pytestmark = pytest.mark.usefixtures("small_heads")


class StepRecorder(lightning.Callback):
    """Rates, decay and gradients with which each optimizer step is really made."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[float, float]]] = []
        self.gradients: list[list[Tensor]] = []

    def on_train_start(self, trainer, pl_module):
        optimizer = trainer.optimizers[0]
        original = optimizer.step

        def step(closure=None):
            def recording():
                loss = closure()
                self.groups.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                self.gradients.append([p.grad.clone() for p in parameters if p.grad is not None])
                return loss

            return original(recording)

        optimizer.step = step


@pytest.fixture
def recorder() -> StepRecorder:
    return StepRecorder()


# ---- groups, rates, clipping by themselves


def test_matrices_decay_and_vectors_do_not():
    network = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Conv2d(1, 1, 2))
    network[0].weight.requires_grad_(False)
    decaying, free = decay_groups([network], 0.3)
    assert {tuple(p.shape) for p in decaying["params"]} == {(1, 1, 2, 2)}
    assert sorted(tuple(p.shape) for p in free["params"]) == [(1,), (2,), (2,), (2,)]
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.3, 0.0)


def test_set_rates_respects_each_groups_factor_and_whether_it_decays():
    decaying, free = decay_groups([nn.Linear(2, 2)], 0.3)
    free["rate"] = 10.0
    optimizer = torch.optim.AdamW([decaying, free], lr=1.0)
    set_rates(optimizer, 0.5, 0.1)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.5, 0.1), (5.0, 0.0)]
    set_rates(optimizer, 0.25)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.25, 0.1), (2.5, 0.0)]


@given(norms=st.lists(st.floats(0, 100), min_size=1, max_size=5), limit=st.floats(0.01, 10))
def test_each_gradient_is_scaled_down_to_the_limit_on_its_own(norms: list[float], limit: float):
    parameters = [nn.Parameter(torch.zeros(4)) for _ in norms]
    for parameter, norm in zip(parameters, norms, strict=True):
        parameter.grad = torch.full((4,), norm / 2)
    without = nn.Parameter(torch.zeros(1))
    clip_each_gradient(torch.optim.SGD([*parameters, without], lr=1.0), limit)
    assert [p.grad.norm().item() for p in parameters] == pytest.approx([min(n, limit) for n in norms], rel=1e-3)
    assert without.grad is None


# ---- stage 1


@pytest.fixture
def pretrain_module(tiny_encoder, pretrain_settings) -> Callable[..., PretrainModule]:
    def make(total_steps: int = 6, **changes: object) -> PretrainModule:
        torch.manual_seed(0)
        return PretrainModule(tiny_encoder(), pretrain_settings(**changes), total_steps, steps_per_epoch=2, seed=0)

    return make


def test_rates_and_decay_of_each_pretraining_step_are_as_scheduled(pretrain_module, views, fit_on, recorder):
    changes = {"learning_rate": 0.01, "warmup_learning_rate": 0.002, "final_learning_rate": 0.0005}
    module = pretrain_module(weight_decay=0.04, final_weight_decay=0.4, **changes)
    fit_on(module, [views(seed) for seed in range(6)], recorder)
    rates = [0.002, 0.006]  # one epoch of two steps of warm-up; then half a cosine over four steps
    rates += [0.0005 + 0.0095 * (1 + math.cos(math.pi * step / 3)) / 2 for step in range(4)]
    decays = [0.4 - 0.36 * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(6)]
    assert [groups[0] for groups in recorder.groups] == [
        pytest.approx(pair) for pair in zip(rates, decays, strict=True)
    ]
    assert [groups[1] for groups in recorder.groups] == [pytest.approx((rate, 0.0)) for rate in rates]


def test_prototypes_do_not_decay(pretrain_module):
    decaying, free = pretrain_module().configure_optimizers().param_groups
    assert [tuple(p.shape) for p in free["params"] if p.ndim > 1] == [(5, 256)]
    assert all(p.ndim > 1 for p in decaying["params"])


def test_linear_scaling_multiplies_the_peak_by_the_batch_over_256(pretrain_module):
    plain = pretrain_module(learning_rate=0.64)
    scaled = pretrain_module(learning_rate=0.64, learning_rate_scaling="linear")
    assert plain.learning_rate.peak == 0.64
    assert scaled.learning_rate.peak == pytest.approx(0.64 * 4 / 256)
    low = pretrain_module(learning_rate=1e-7)  # neither end may be above the peak
    assert low.learning_rate.start == low.learning_rate.end == low.learning_rate.peak == 1e-7


def test_pretraining_clips_each_tensors_gradient(pretrain_module, views, fit_on):
    unclipped, clipped = StepRecorder(), StepRecorder()
    fit_on(pretrain_module(clip_gradient_norm=1e6), [views(1)], unclipped)
    norms = torch.stack([gradient.norm() for gradient in unclipped.gradients[0]])
    limit = norms.median().item()  # one half of the tensors is above it
    fit_on(pretrain_module(clip_gradient_norm=limit), [views(1)], clipped)
    assert 0 < (norms > 1.01 * limit).sum() < len(norms) / 2
    for norm, free, limited in zip(norms, unclipped.gradients[0], clipped.gradients[0], strict=True):
        torch.testing.assert_close(limited, free * (limit / norm).clamp(max=1), rtol=1e-3, atol=1e-9)


# ---- stage 2


@pytest.fixture
def finetune_module(tiny_encoder) -> Callable[..., FinetuneModule]:
    def make(total_steps: int = 4, **changes: object) -> FinetuneModule:
        torch.manual_seed(0)
        return FinetuneModule(PaperHead(tiny_encoder()), FinetuneSettings(**changes), total_steps, steps_per_epoch=2)

    return make


def pairs(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randint(0, 256, (3, 3, 32, 32), generator=generator, dtype=torch.uint8)
    footprint = torch.zeros(3, 32, 32, dtype=torch.bool)
    footprint[:, 4:14, 6:20] = True
    anomalous = torch.where(footprint[:, None], torch.zeros_like(normal), normal)
    return {"normal": normal, "anomalous": anomalous, "footprint": footprint, "label": torch.ones(3, dtype=torch.long)}


@pytest.mark.parametrize(("head_rate", "factor"), [(None, 1.0), (0.02, 10.0), (0.0, 0.0)])
def test_encoder_head_and_aggregation_have_rates_of_their_own(
    finetune_module, fit_on, recorder, head_rate: float | None, factor: float
):
    module = finetune_module(
        learning_rate=0.002,
        head_learning_rate=head_rate,
        warmup_learning_rate=0.001,
        final_learning_rate=0.0005,
        warmup_epochs=0.5,
        weight_decay=0.05,
    )
    fit_on(module, [pairs(seed) for seed in range(4)], recorder)
    rates = [0.001, 0.002, 0.0005 + 0.0015 / 2, 0.0005]  # one step of warm-up, then half a cosine over three
    for groups, rate in zip(recorder.groups, rates, strict=True):
        encoder, encoder_free, head, head_free, aggregation = groups
        assert encoder == pytest.approx((rate, 0.05)) and encoder_free == pytest.approx((rate, 0.0))
        assert head == pytest.approx((rate * factor, 0.05)) and head_free == pytest.approx((rate * factor, 0.0))
        assert aggregation == pytest.approx((rate * 10, 0.0))
    groups = module.configure_optimizers().param_groups
    assert [p for p in groups[4]["params"]] == list(module.scorer.aggregation.parameters())
    assert {p for group in groups for p in group["params"]} == set(module.scorer.parameters())


def test_finetuning_clips_the_norm_over_all_parameters(finetune_module, fit_on):
    gradients = {}
    for limit in (1e6, 1e-3):
        recorder = StepRecorder()
        fit_on(finetune_module(clip_gradient_norm=limit), [pairs(1)], recorder)
        gradients[limit] = torch.cat([gradient.flatten() for gradient in recorder.gradients[0]])
    assert gradients[1e6].norm() > 0.1
    assert gradients[1e-3].norm().item() == pytest.approx(1e-3, rel=1e-3)
    torch.testing.assert_close(gradients[1e-3], gradients[1e6] / gradients[1e6].norm() * 1e-3, rtol=1e-3, atol=1e-9)


# ---- losses that are not numbers, and collapse


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_problem_place_and_remedy(value: float):
    with pytest.raises(UserError) as caught:
        check_finite(torch.tensor(value), "finetune", 17)
    assert caught.value.problem == f"the loss is {value} at step 17"
    assert caught.value.place == "stage finetune"
    assert "lower finetune.learning_rate" in caught.value.remedy and "checkpoint was kept" in caught.value.remedy
    check_finite(torch.tensor(3e38), "finetune", 17)


def observe(watch: CollapseWatch, step: int, targets: Tensor) -> dict[str, float]:
    return watch.observe(step, torch.tensor(1.5), targets, torch.tensor(0.25))


UNIFORM = torch.full((6, 4), 0.25)
CLEAR = torch.eye(4)[[0, 0, 1, 1, 3, 3]]


def test_uniform_targets_after_the_warm_up_stop_with_problem_place_and_remedy():
    watch = CollapseWatch(num_prototypes=4, warmup_steps=30)
    for step in range(30):
        observe(watch, step, UNIFORM)
    with pytest.raises(UserError) as caught:
        observe(watch, 30, UNIFORM)
    assert caught.value.problem == (
        "pre-training has collapsed: the clusters' targets are uniform (entropy 1.386 of at most ln 4 = 1.386) over "
        "the last 20 steps"
    )
    assert caught.value.place == "stage pretrain, step 30"
    assert "pretrain.sinkhorn_epsilon=0.005" in caught.value.remedy and "pretrain.center_outputs" in caught.value.remedy


def test_targets_that_say_something_go_on():
    watch = CollapseWatch(num_prototypes=4, warmup_steps=0)
    almost = 0.9 * UNIFORM + 0.1 * CLEAR
    for step in range(100):
        observe(watch, step, almost)  # entropy 0.988 of the most there is


def test_a_window_is_needed_and_one_clear_step_in_it_is_enough():
    watch = CollapseWatch(num_prototypes=4, warmup_steps=0)
    for step in range(WINDOW_STEPS - 1):
        observe(watch, step, UNIFORM)  # not yet twenty steps
    for step in range(WINDOW_STEPS - 1, 2 * WINDOW_STEPS - 2):
        observe(watch, step, CLEAR if step == WINDOW_STEPS - 1 else UNIFORM)
    with pytest.raises(UserError, match="has collapsed"):
        for step in range(2 * WINDOW_STEPS - 2, 2 * WINDOW_STEPS + 1):
            observe(watch, step, UNIFORM)


def test_what_the_watch_logs():
    watch = CollapseWatch(num_prototypes=4, warmup_steps=0)
    observe(watch, 0, torch.eye(4)[[2] * 6])
    record = observe(watch, 1, CLEAR)
    assert record == {
        "loss": 1.5,
        "uniform_loss": pytest.approx(math.log(4)),
        "target_entropy": pytest.approx(0, abs=1e-6),
        "score_spread": 0.25,
        "collapsed": False,
        "prototypes_used": 3,
        "prototypes_used_recently": 4,
    }


def test_a_watch_that_goes_on_from_its_state_judges_alike():
    watch, other = CollapseWatch(4, warmup_steps=0), CollapseWatch(4, warmup_steps=0)
    for step in range(15):
        observe(watch, step, CLEAR if step == 0 else UNIFORM)
    other.load_state(watch.state())
    assert observe(other, 15, UNIFORM) == observe(watch, 15, UNIFORM)
    for one in (watch, other):
        with pytest.raises(UserError, match="step 20"):
            for step in range(16, 30):
                observe(one, step, UNIFORM)


@pytest.mark.parametrize(
    ("total_steps", "warmup_epochs", "patience"), [(30, 10.0, 15), (600, 10.0, 100), (600, 90.0, 180)]
)
def test_a_warm_up_longer_than_training_does_not_blind_the_watch(
    pretrain_module, total_steps: int, warmup_epochs: float, patience: int
):
    """Two steps per epoch. The watch waits for the warm-up that is really made, for 100 steps, or half of training."""
    module = pretrain_module(total_steps=total_steps, warmup_epochs=warmup_epochs)
    for step in range(max(patience, WINDOW_STEPS - 1)):
        observe(module.watch, step, torch.full((4, 5), 0.2))
    with pytest.raises(UserError, match="has collapsed"):
        observe(module.watch, max(patience, WINDOW_STEPS - 1), torch.full((4, 5), 0.2))
