"""iBOT: the formula in loops, lightly's patch loss, images without masked patches, where gradients go."""

import math

import pytest
import torch
from by_hand import normal
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flawmap_bench.objectives.dino import DistillationHead, cross_view_loss, dino_targets, updated_center
from flawmap_bench.objectives.ibot import ibot_loss, ibot_patch_loss


def some_masked(views: int, images: int, patches: int, seed: int = 0) -> Tensor:
    """A mask whose images have different numbers of masked patches, the first of each view none."""
    mask = torch.rand(views, images, patches, generator=torch.Generator().manual_seed(seed)) < 0.4
    mask[:, 0] = False
    mask[:, 1, 0] = True
    return mask


def cross_entropy_by_hand(teacher: Tensor, student: Tensor, center: Tensor, teacher_temperature: float) -> float:
    exponentials = [math.exp((float(v) - float(c)) / teacher_temperature) for v, c in zip(teacher, center, strict=True)]
    scaled = [float(u) / 0.1 for u in student]
    log_sum = math.log(sum(math.exp(s) for s in scaled))
    return -sum(e / sum(exponentials) * (s - log_sum) for e, s in zip(exponentials, scaled, strict=True))


def patch_loss_by_hand(teacher: Tensor, student: Tensor, center: Tensor, temperature: float, mask: Tensor) -> float:
    """Over all tokens (t, b, n, k) of teacher and student, token by token."""
    views, images, patches = mask.shape
    total = 0.0
    for t in range(views):
        for b in range(images):
            of_image, count = 0.0, 0
            for i in range(patches):
                if mask[t, b, i]:
                    of_image += cross_entropy_by_hand(teacher[t, b, i], student[t, b, i], center, temperature)
                    count += 1
            total += of_image / max(1, count) / images / views
    return total


# ---- the patch term


@given(st.integers(1, 2), st.integers(2, 4), st.integers(1, 6), st.integers(0, 99))
def test_patch_term_equals_the_formula_in_loops(views: int, images: int, patches: int, seed: int):
    teacher, student = normal(views, images, patches, 4, seed=seed), normal(views, images, patches, 4, seed=seed + 100)
    center, mask = normal(4, seed=seed + 200), some_masked(views, images, patches, seed)
    loss = ibot_patch_loss(dino_targets(teacher[mask], center, 0.05), student[mask], mask, 0.1)
    assert loss == pytest.approx(patch_loss_by_hand(teacher, student, center, 0.05, mask), rel=1e-4, abs=1e-6)


def test_patch_term_equals_lightlys():
    theirs = pytest.importorskip("lightly.loss").IBOTPatchLoss(output_dim=6, teacher_temp=0.05)
    mask, center = some_masked(2, 4, 9), torch.zeros(6)
    teacher, student = normal(2, 4, 9, 6), normal(2, 4, 9, 6, seed=1).requires_grad_()
    expected = theirs(teacher[mask], student[mask], mask.flatten(0, 1).unflatten(-1, (3, 3)))
    loss = ibot_patch_loss(dino_targets(teacher[mask], center, 0.05), student[mask], mask)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss, student)[0], torch.autograd.grad(expected, student)[0]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_lightlys_center_follows_the_masked_patches_and_ours_all_of_them():
    """lightly's is DINOv2's; iBOT's own code takes the mean over every patch of the teacher's whole views."""
    theirs = pytest.importorskip("lightly.loss").IBOTPatchLoss(output_dim=6)
    mask, teacher = some_masked(2, 4, 9), normal(2, 4, 9, 6)
    theirs(teacher[mask], teacher[mask], mask.flatten(0, 1).unflatten(-1, (3, 3)))
    torch.testing.assert_close(theirs.center.value[0], 0.1 * teacher[mask].mean(dim=0))
    ours = updated_center(torch.zeros(6), teacher)
    torch.testing.assert_close(ours, 0.1 * teacher.reshape(72, 6).mean(dim=0))
    assert not torch.allclose(ours, theirs.center.value[0], atol=1e-3)


def test_an_image_without_masked_patches_adds_nothing_but_counts_in_the_mean():
    teacher, student, center = normal(2, 1, 5, 4), normal(2, 1, 5, 4, seed=1), torch.zeros(4)
    mask = torch.zeros(2, 1, 5, dtype=torch.bool)
    mask[:, :, :3] = True
    targets, predictions = dino_targets(teacher[mask], center, 0.04), student[mask]
    alone = ibot_patch_loss(targets, predictions, mask)
    with_others = torch.cat([mask, torch.zeros(2, 3, 5, dtype=torch.bool)], dim=1)
    assert alone > 0.1
    torch.testing.assert_close(ibot_patch_loss(targets, predictions, with_others), alone / 4)


def test_images_count_the_same_however_many_patches_are_masked():
    """One image costs ln K per patch with 1 masked patch, the other nothing with 4: the mean is ln K / 2."""
    mask = torch.tensor([[[True, False, False, False], [True, True, True, True]]])
    targets = torch.eye(3)[[0, 0, 0, 0, 0]]
    student = torch.zeros(5, 3)
    student[1:, 0] = 1000.0
    assert ibot_patch_loss(targets, student, mask) == pytest.approx(math.log(3) / 2, rel=1e-6)


def test_nothing_masked_at_all_costs_nothing():
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    student = torch.zeros(0, 6, requires_grad=True)
    loss = ibot_patch_loss(torch.zeros(0, 6), student, mask)
    loss.backward()
    assert loss == 0 and student.grad.shape == (0, 6)


def test_rows_and_masked_patches_must_match_in_number():
    mask = some_masked(2, 3, 4)
    rows = int(mask.sum())
    with pytest.raises(ValueError, match=f"{rows + 1} rows for {rows} masked patches"):
        ibot_patch_loss(torch.full((rows + 1, 5), 0.2), torch.zeros(rows + 1, 5), mask)


# ---- both terms


def both_terms(cls: Tensor, student_cls: Tensor, patches: Tensor, student_patches: Tensor, mask: Tensor) -> Tensor:
    """The loss from all tokens of teacher and student, with centres that are zero."""
    zero = torch.zeros(cls.shape[-1])
    return ibot_loss(
        dino_targets(cls, zero, 0.04),
        student_cls,
        dino_targets(patches[mask], zero, 0.05),
        student_patches[mask],
        mask,
    )


def test_the_loss_is_dinos_plus_the_patch_term():
    cls, student_cls = normal(2, 3, 4), normal(5, 3, 4, seed=1)
    patches, student_patches, mask = normal(2, 3, 6, 4, seed=2), normal(2, 3, 6, 4, seed=3), some_masked(2, 3, 6)
    zero, on_cls = torch.zeros(4), 0.0
    for t in range(2):
        for s in range(5):
            if s != t:
                on_cls += sum(cross_entropy_by_hand(cls[t, b], student_cls[s, b], zero, 0.04) for b in range(3)) / 3 / 8
    on_patches = patch_loss_by_hand(patches, student_patches, zero, 0.05, mask)
    assert both_terms(cls, student_cls, patches, student_patches, mask) == pytest.approx(on_cls + on_patches, rel=1e-5)
    arguments = (dino_targets(cls, zero, 0.04), student_cls, dino_targets(patches[mask], zero, 0.05))
    weighted = ibot_loss(*arguments, student_patches[mask], mask, 0.1, patch_weight=0.25)
    assert weighted == pytest.approx(on_cls + 0.25 * on_patches, rel=1e-5)


def test_without_masked_patches_dino_is_left():
    cls, student_cls, nothing = normal(2, 3, 4), normal(5, 3, 4, seed=1), torch.zeros(2, 3, 6, dtype=torch.bool)
    loss = both_terms(cls, student_cls, normal(2, 3, 6, 4), normal(2, 3, 6, 4), nothing)
    assert torch.equal(loss, cross_view_loss(dino_targets(cls, torch.zeros(4), 0.04), student_cls, 0.1, 2))


@given(st.permutations(range(5)))
def test_the_order_of_the_batch_does_not_matter(order: list[int]):
    mask = some_masked(2, 5, 6)
    inputs = normal(2, 5, 4), normal(5, 5, 4, seed=1), normal(2, 5, 6, 4, seed=2), normal(2, 5, 6, 4, seed=3)
    permuted = [tokens[:, order] for tokens in inputs]
    torch.testing.assert_close(both_terms(*permuted, mask[:, order]), both_terms(*inputs, mask))


def test_predictions_that_say_nothing_cost_ln_k_for_each_term():
    mask = some_masked(2, 4, 6)
    mask[:, 0, 0] = True  # every image has masked patches
    loss = both_terms(normal(2, 4, 9), torch.zeros(5, 4, 9), normal(2, 4, 6, 9), torch.zeros(2, 4, 6, 9), mask)
    assert loss == pytest.approx(2 * math.log(9), rel=1e-5)


def test_uniform_patch_targets_cost_at_least_ln_k():
    mask = torch.ones(1, 2, 3, dtype=torch.bool)
    uniform = dino_targets(torch.ones(6, 8), torch.ones(8), 0.04)
    assert ibot_patch_loss(uniform, normal(6, 8), mask) > math.log(8)
    assert ibot_patch_loss(uniform, torch.full((6, 8), -2.0), mask) == pytest.approx(math.log(8), rel=1e-6)


def test_huge_logits_stay_finite_and_exact():
    """Teacher sure of class 0, student sure of class 1, on [CLS] and on every masked patch of all but one image."""
    sure, wrong = torch.tensor([1e4, -1e4, -1e4]), torch.tensor([-1e4, 1e4, -1e4])
    mask = some_masked(2, 3, 6)
    mask[:, 2, 1] = True
    student_cls, student_patches = wrong.repeat(4, 3, 1).requires_grad_(), wrong.repeat(2, 3, 6, 1).requires_grad_()
    loss = both_terms(sure.repeat(2, 3, 1), student_cls, sure.repeat(2, 3, 6, 1), student_patches, mask)
    assert float(loss.detach()) == pytest.approx(2e5 * (1 + 2 / 3), rel=1e-6)
    loss.backward()
    assert student_cls.grad.isfinite().all() and student_patches.grad.isfinite().all()


def test_half_precision_logits_are_handled_in_float32():
    mask = some_masked(2, 3, 6)
    inputs = normal(2, 3, 4), normal(5, 3, 4, seed=1), normal(2, 3, 6, 4, seed=2), normal(2, 3, 6, 4, seed=3)
    half = [tokens.bfloat16() for tokens in inputs]
    loss = both_terms(*half, mask)
    assert loss.dtype == torch.float32 and torch.equal(loss, both_terms(*(tokens.float() for tokens in half), mask))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(both_terms(*half, mask), loss)


def test_one_head_learns_from_both_tokens_and_the_teacher_from_none():
    torch.manual_seed(0)
    student, teacher = DistillationHead(8, 12), DistillationHead(8, 12)
    cls, patches = normal(4, 3, 8).requires_grad_(), normal(2, 3, 5, 8, seed=1).requires_grad_()
    teacher_cls, teacher_patches = normal(2, 3, 8, seed=2).requires_grad_(), normal(2, 3, 5, 8).requires_grad_()
    mask, zero = some_masked(2, 3, 5), torch.zeros(12)
    patch_targets = dino_targets(teacher(teacher_patches[mask]), zero, 0.04)
    cls_targets = dino_targets(torch.stack([teacher(view) for view in teacher_cls]), zero, 0.04)
    student_cls = torch.stack([student(view) for view in cls])
    ibot_loss(cls_targets, student_cls, patch_targets, student(patches[mask]), mask).backward()
    assert teacher_cls.grad is None and teacher_patches.grad is None
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad.abs().sum() > 0 for p in student.parameters())
    assert (cls.grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert torch.equal(patches.grad.abs().sum(dim=-1) > 0, mask)  # the masked patches and no others


def test_patch_targets_that_carry_a_gradient_are_cut_off():
    mask = torch.ones(1, 2, 3, dtype=torch.bool)
    targets, student = normal(6, 4).softmax(dim=-1).requires_grad_(), normal(6, 4, seed=1).requires_grad_()
    ibot_patch_loss(targets, student, mask).backward()
    assert targets.grad is None and student.grad.abs().sum() > 0
