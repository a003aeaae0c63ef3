"""DINO: the formula in loops, lightly's loss, which pairs count, the centre, the temperature, the head."""

import copy
import math
from pathlib import Path

import pytest
import torch
from by_hand import normal
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, multiprocessing, nn
from torch import distributed as dist
from torch.nn.utils import parametrizations

from flawmap_bench.objectives import dino
from flawmap_bench.objectives.dino import (
    DistillationHead,
    WeightNormalizedLinear,
    cross_view_loss,
    dino_targets,
    teacher_temperature,
    updated_center,
)


def softmax_by_hand(logits: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(logit / temperature) for logit in logits]
    return [e / sum(exponentials) for e in exponentials]


def pair_by_hand(targets: Tensor, student: Tensor, temperature: float) -> float:
    """Mean over the batch of CE(target, softmax(student / temperature)), for one pair of views."""
    total = 0.0
    for target, logits in zip(targets.double().tolist(), student.double().tolist(), strict=True):
        predicted = softmax_by_hand(logits, temperature)
        total -= sum(a * math.log(b) for a, b in zip(target, predicted, strict=True))
    return total / len(targets)


# ---- the loss


def test_equals_the_formula_in_loops():
    teacher, student, center = normal(2, 3, 5), normal(4, 3, 5, seed=1), normal(5, seed=2)
    by_hand = 0.0
    for t in range(2):
        for s in range(4):
            if s != t:
                for b in range(3):
                    centered = [float(v) - float(c) for v, c in zip(teacher[t, b], center, strict=True)]
                    target, predicted = softmax_by_hand(centered, 0.04), softmax_by_hand(student[s, b].tolist(), 0.1)
                    by_hand -= sum(a * math.log(p) for a, p in zip(target, predicted, strict=True)) / 3
    loss = cross_view_loss(dino_targets(teacher, center, 0.04), student, 0.1, shared_views=2)
    assert loss == pytest.approx(by_hand / (2 * (4 - 1)), rel=1e-5)


def test_loss_and_center_equal_lightlys_over_several_steps():
    theirs = pytest.importorskip("lightly.loss").DINOLoss(output_dim=7)
    center = torch.zeros(7)
    for step in range(3):
        teacher, student = normal(2, 5, 7, seed=step) + 0.3, normal(6, 5, 7, seed=10 + step)
        expected = theirs(list(teacher), list(student), teacher_temp=0.05)
        loss = cross_view_loss(dino_targets(teacher, center, 0.05), student, 0.1, shared_views=2)
        center = updated_center(center, teacher)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(center, theirs.center[0, 0], rtol=1e-5, atol=1e-6)


def test_gradients_equal_lightlys():
    theirs = pytest.importorskip("lightly.loss").DINOLoss(output_dim=7)
    teacher, student = normal(2, 5, 7), normal(6, 5, 7, seed=1).requires_grad_()
    (expected,) = torch.autograd.grad(theirs(list(teacher), list(student), teacher_temp=0.04), student)
    targets = dino_targets(teacher, torch.zeros(7), 0.04)
    (gradient,) = torch.autograd.grad(cross_view_loss(targets, student, 0.1, shared_views=2), student)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)


def test_lightlys_loss_drops_a_pair_by_its_place_and_ours_only_on_demand():
    """One teacher view and student views of their own crops: there is no same view, yet lightly skips (0, 0)."""
    theirs = pytest.importorskip("lightly.loss").DINOLoss(output_dim=7)
    teacher, student = normal(1, 5, 7), normal(3, 5, 7, seed=1)
    targets = dino_targets(teacher, torch.zeros(7), 0.04)
    dropped = theirs(list(teacher), list(student), teacher_temp=0.04)
    torch.testing.assert_close(cross_view_loss(targets, student, 0.1, shared_views=1), dropped, rtol=1e-5, atol=1e-6)
    pairs = [pair_by_hand(targets[0], view, 0.1) for view in student]
    assert dropped == pytest.approx((pairs[1] + pairs[2]) / 2, rel=1e-5)
    assert cross_view_loss(targets, student, 0.1, shared_views=0) == pytest.approx(sum(pairs) / 3, rel=1e-5)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 3))
def test_exactly_the_shared_pairs_are_skipped(t: int, v: int, shared: int):
    targets, student = normal(t, 3, 4).softmax(dim=-1), normal(v, 3, 4, seed=1)
    pairs = [(i, j) for i in range(t) for j in range(v) if not (i == j < shared)]
    if shared > min(t, v) or not pairs:
        with pytest.raises(ValueError, match=f"{t} teacher and {v} student views"):
            cross_view_loss(targets, student, 0.1, shared)
        return
    by_hand = sum(pair_by_hand(targets[i], student[j], 0.1) for i, j in pairs) / len(pairs)
    assert cross_view_loss(targets, student, 0.1, shared) == pytest.approx(by_hand, rel=1e-4)


def test_two_global_views_alone_are_swapped():
    """Each is predicted from the other only: what a view says about itself does not count."""
    targets, student = normal(2, 3, 4).softmax(dim=-1), normal(2, 3, 4, seed=1)
    swapped = (pair_by_hand(targets[0], student[1], 0.1) + pair_by_hand(targets[1], student[0], 0.1)) / 2
    assert cross_view_loss(targets, student, 0.1, shared_views=2) == pytest.approx(swapped, rel=1e-5)


@given(st.permutations(range(6)))
def test_the_order_of_the_batch_does_not_matter(order: list[int]):
    teacher, student = normal(2, 6, 5), normal(4, 6, 5, seed=1)
    center = normal(5, seed=2)
    loss = cross_view_loss(dino_targets(teacher, center, 0.04), student, 0.1, 2)
    permuted = cross_view_loss(dino_targets(teacher[:, order], center, 0.04), student[:, order], 0.1, 2)
    torch.testing.assert_close(permuted, loss)
    torch.testing.assert_close(updated_center(center, teacher[:, order]), updated_center(center, teacher))


def test_predictions_that_say_nothing_cost_ln_k():
    targets = dino_targets(normal(2, 6, 4096), torch.zeros(4096), 0.04)
    assert cross_view_loss(targets, torch.zeros(4, 6, 4096), 0.1, 2) == pytest.approx(math.log(4096), rel=1e-5)


@given(st.integers(0, 1000))
def test_uniform_targets_cost_at_least_ln_k(seed: int):
    """A centre that explains every output leaves uniform targets: the collapse that ln K stands for."""
    center = normal(8, seed=seed)
    targets = dino_targets(center.expand(2, 6, -1), center, 0.04)
    torch.testing.assert_close(targets, torch.full((2, 6, 8), 1 / 8))
    assert cross_view_loss(targets, normal(4, 6, 8, seed=seed + 1), 0.1, 2) > math.log(8)
    assert cross_view_loss(targets, torch.full((4, 6, 8), 3.0), 0.1, 2) == pytest.approx(math.log(8), abs=1e-5)


def test_huge_logits_stay_finite_and_exact():
    """Teacher sure of class 0, student sure of class 1: the cross-entropy is the gap of the scaled logits."""
    teacher = torch.tensor([1e4, -1e4, -1e4]).expand(2, 4, 3)
    student = torch.tensor([-1e4, 1e4, -1e4]).repeat(3, 4, 1).requires_grad_()
    loss = cross_view_loss(dino_targets(teacher, torch.zeros(3), 0.04), student, 0.1, 2)
    assert float(loss.detach()) == pytest.approx(2e4 / 0.1, rel=1e-6)
    loss.backward()
    assert student.grad.isfinite().all()
    assert cross_view_loss(dino_targets(teacher, torch.zeros(3), 0.04), teacher, 0.1, 2) == 0


def test_half_precision_logits_are_handled_in_float32():
    teacher, student, center = normal(2, 4, 6).bfloat16(), normal(3, 4, 6, seed=1).bfloat16(), normal(6, seed=2)
    targets = dino_targets(teacher, center, 0.04)
    assert targets.dtype == torch.float32
    assert torch.equal(targets, dino_targets(teacher.float(), center, 0.04))
    assert torch.equal(cross_view_loss(targets, student, 0.1, 2), cross_view_loss(targets, student.float(), 0.1, 2))
    assert torch.equal(updated_center(center, teacher), updated_center(center, teacher.float()))


def test_autocast_does_not_touch_the_loss():
    """It would compute a matrix product in bf16, and so it does lightly's einsum."""
    theirs = pytest.importorskip("lightly.loss").DINOLoss(output_dim=50)
    teacher, student = normal(2, 4, 50), normal(3, 4, 50, seed=1)
    targets = dino_targets(teacher, torch.zeros(50), 0.04)
    exact = cross_view_loss(targets, student, 0.1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cross_view_loss(targets, student, 0.1, 2), exact)
        rounded = theirs(list(teacher), list(student), teacher_temp=0.04)
    assert abs(float(rounded - exact)) > 1e-4


# ---- the centre and the temperature


def test_the_center_is_a_moving_average_over_all_leading_axes():
    logits = normal(2, 3, 4, 5)
    mean = [sum(float(row[k]) for row in logits.reshape(-1, 5)) / 24 for k in range(5)]
    center = updated_center(torch.ones(5), logits)
    torch.testing.assert_close(center, torch.tensor([0.9 * 1 + 0.1 * m for m in mean]))


def test_the_center_comes_to_the_outputs_at_the_rate_of_its_momentum():
    center, logits = torch.zeros(3), torch.tensor([1.0, -2.0, 5.0]).expand(4, 3)
    for _ in range(20):
        center = updated_center(center, logits, momentum=0.8)
    torch.testing.assert_close(center, logits[0] * (1 - 0.8**20))


def test_the_center_given_is_left_as_it_was_and_no_gradient_is_kept():
    center, logits = torch.zeros(3), normal(4, 3).requires_grad_()
    new = updated_center(center, logits)
    assert not new.requires_grad
    assert torch.equal(center, torch.zeros(3)) and not torch.equal(new, center)


def test_the_center_takes_in_other_processes(monkeypatch: pytest.MonkeyPatch):
    here, there = normal(2, 4, 5), normal(2, 4, 5, seed=1)
    monkeypatch.setattr(dino, "gather_batch", lambda rows: torch.cat([rows, there.mean(dim=(0, 1))[None]]))
    together = updated_center(torch.zeros(5), here)
    torch.testing.assert_close(together, 0.1 * torch.cat([here, there]).mean(dim=(0, 1)))


def center_of_own_part(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    part = normal(2, 8, 5).chunk(world_size, dim=1)[rank]
    torch.save(updated_center(torch.ones(5), part), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_one_center(tmp_path: Path):
    multiprocessing.spawn(center_of_own_part, args=(2, str(tmp_path)), nprocs=2)
    expected = updated_center(torch.ones(5), normal(2, 8, 5))
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)


def test_the_teachers_temperature_rises_linearly_and_then_stays():
    found = [teacher_temperature(step, 30) for step in (0, 10, 15, 30, 31, 10_000)]
    assert found == pytest.approx([0.04, 0.05, 0.055, 0.07, 0.07, 0.07])
    assert teacher_temperature(0, 0) == pytest.approx(0.07)  # no warm-up


def test_the_temperature_equals_lightlys_at_the_start_of_each_epoch():
    """lightly counts whole epochs and is at the end in the last of them, number 29 of 30."""
    loss = pytest.importorskip("lightly.loss").DINOLoss(output_dim=3, warmup_teacher_temp=0.04, teacher_temp=0.07)
    ours = [teacher_temperature(epoch, 29) for epoch in range(30)]
    torch.testing.assert_close(torch.tensor(ours), loss.teacher_temp_schedule)


# ---- the head


@pytest.fixture(scope="module")
def head() -> DistillationHead:
    torch.manual_seed(0)
    return DistillationHead(16, 40)


def test_the_last_layer_equals_torchs_weight_normalisation():
    torch.manual_seed(0)
    ours, theirs = WeightNormalizedLinear(30), parametrizations.weight_norm(nn.Linear(256, 30, bias=False))
    g, v = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
    with torch.no_grad():
        ours.norms.uniform_(0.5, 2)
        g.copy_(ours.norms)
        v.copy_(ours.directions)
    z = normal(5, 256)
    torch.testing.assert_close(ours(z), theirs(z), rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(ours(z).square().sum(), (ours.norms, ours.directions))
    expected = torch.autograd.grad(theirs(z).square().sum(), (g, v))
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-3)


def test_a_fresh_head_gives_cosines(head: DistillationHead):
    logits = head(normal(50, 16))
    assert logits.shape == (50, 40) and logits.abs().max() <= 1 + 1e-5
    z = head.projection(normal(1, 16))
    torch.testing.assert_close(
        head.last_layer(z)[0, 7], torch.cosine_similarity(z[0], head.last_layer.directions[7], 0)
    )


def test_logits_do_not_depend_on_the_length_of_the_directions(head: DistillationHead):
    tokens, longer = normal(5, 16), copy.deepcopy(head)
    with torch.no_grad():
        longer.last_layer.directions.mul_(7)
    torch.testing.assert_close(longer(tokens), head(tokens))


def test_autocast_does_not_round_the_logits(head: DistillationHead):
    z = head.projection(normal(5, 16)).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = head.last_layer(z)
    assert under_autocast.dtype == torch.float32 and torch.equal(under_autocast, head.last_layer(z))


@pytest.mark.parametrize("learn_norms", [True, False])
def test_student_and_head_learn_and_the_teacher_does_not(learn_norms: bool):
    torch.manual_seed(0)
    student, teacher = DistillationHead(8, 12, learn_norms), DistillationHead(8, 12, learn_norms)
    cls, teacher_cls = normal(4, 5, 8, seed=1).requires_grad_(), normal(2, 5, 8, seed=2).requires_grad_()
    center = torch.zeros(12).requires_grad_()
    targets = dino_targets(torch.stack([teacher(view) for view in teacher_cls]), center, 0.04)
    loss = cross_view_loss(targets, torch.stack([student(view) for view in cls]), 0.1, 2)
    loss.backward()
    assert teacher_cls.grad is None and center.grad is None
    assert all(p.grad is None for p in teacher.parameters())
    assert (cls.grad.flatten(1).abs().sum(dim=1) > 0).all()  # every view
    without = {name for name, p in student.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert without == (set() if learn_norms else {"last_layer.norms"})


def test_targets_that_carry_a_gradient_are_cut_off():
    targets = normal(2, 3, 4).softmax(dim=-1).requires_grad_()
    student = normal(3, 3, 4, seed=1).requires_grad_()
    cross_view_loss(targets, student, 0.1, 2).backward()
    assert targets.grad is None and student.grad.abs().sum() > 0
