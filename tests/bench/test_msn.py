"""MSN: the formula in loops, lightly's loss, the entropy term, underflow, the heads, several processes."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from by_hand import balanced, normal
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, multiprocessing
from torch import distributed as dist

from flawmap_bench.objectives.msn import (
    MsnHead,
    MsnPrototypes,
    mean_entropy_gap,
    msn_log_predictions,
    msn_loss,
    msn_targets,
)


def predictions_by_hand(embedding: Tensor, prototypes: Tensor, temperature: float) -> list[float]:
    """softmax(cos(z, C) / tau) in float64."""
    z, C = embedding.double().tolist(), prototypes.double().tolist()
    length = math.sqrt(sum(x * x for x in z))
    exponentials = []
    for prototype in C:
        cosine = sum(x * y for x, y in zip(z, prototype, strict=True)) / length
        exponentials.append(math.exp(cosine / math.sqrt(sum(y * y for y in prototype)) / temperature))
    return [e / sum(exponentials) for e in exponentials]


def targets_by_hand(embeddings: Tensor, prototypes: Tensor, iterations: int) -> np.ndarray:
    """Sharpened with exponent 1 / 0.25, then balanced as probabilities, one prototype and sample after the other."""
    plan = np.array([[p**4 for p in predictions_by_hand(z, prototypes, 0.1)] for z in embeddings])
    return balanced(plan / plan.sum(axis=1, keepdims=True), iterations)


def loss_by_hand(anchors: Tensor, embeddings: Tensor, prototypes: Tensor, weight: float) -> float:
    targets = targets_by_hand(embeddings, prototypes, 3)
    views, batch, _ = anchors.shape
    cross_entropy, mean = 0.0, [0.0] * len(prototypes)
    for v in range(views):
        for b in range(batch):
            predicted = predictions_by_hand(anchors[v, b], prototypes, 0.1)
            for k, p in enumerate(predicted):
                cross_entropy -= targets[b, k] * math.log(p) / (views * batch)
                mean[k] += p / (views * batch)
    return cross_entropy + weight * (math.log(len(prototypes)) + sum(p * math.log(p) for p in mean))


# ---- the loss


@given(st.integers(1, 3), st.integers(1, 5), st.integers(2, 7), st.sampled_from([0.0, 1.0, 5.0]))
def test_equals_the_formula_in_loops(views: int, batch: int, num_prototypes: int, weight: float):
    anchors, embeddings = normal(views, batch, 6, seed=batch), normal(batch, 6, seed=views + 10)
    prototypes = normal(num_prototypes, 6, seed=20)
    targets = msn_targets(embeddings, prototypes)
    np.testing.assert_allclose(targets.numpy(), targets_by_hand(embeddings, prototypes, 3), rtol=1e-3, atol=1e-5)
    loss = msn_loss(targets, anchors, prototypes, mean_entropy_weight=weight)
    assert loss == pytest.approx(loss_by_hand(anchors, embeddings, prototypes, weight), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("iterations", [0, 3])
def test_loss_and_gradients_equal_lightlys(iterations: int):
    theirs = pytest.importorskip("lightly.loss").MSNLoss(sinkhorn_iterations=iterations)
    anchors, embeddings = normal(11, 16, 32).requires_grad_(), normal(16, 32, seed=1)
    prototypes = normal(64, 32, seed=2).requires_grad_()
    expected = theirs(anchors.flatten(0, 1), embeddings, prototypes)  # the parameter, not its .data
    loss = msn_loss(msn_targets(embeddings, prototypes, iterations=iterations), anchors, prototypes)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(loss, (anchors, prototypes))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (anchors, prototypes)), rtol=1e-3, atol=1e-7)


def test_an_underflown_power_breaks_lightlys_loss_and_not_ours():
    """Logits of +-1e4: lightly takes ln(p ** -target) with p = 0, which is infinite (or 0 ** -0)."""
    theirs = pytest.importorskip("lightly.loss").MSNLoss(temperature=1e-4)
    prototypes = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    embeddings, anchors = prototypes.clone(), prototypes.flip(0)[None].clone().requires_grad_()  # each anchor is wrong
    assert not theirs(anchors[0], embeddings, prototypes).isfinite()
    targets = msn_targets(embeddings, prototypes, temperature=1e-4)
    torch.testing.assert_close(targets, torch.eye(2))
    loss = msn_loss(targets, anchors, prototypes, temperature=1e-4)
    # the gap of the logits; the mean prediction is uniform
    assert float(loss.detach()) == pytest.approx(2e4, rel=1e-6)
    loss.backward()
    assert anchors.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_only_directions_count(scale: float):
    anchors, embeddings, prototypes = normal(3, 4, 6), normal(4, 6, seed=1), normal(5, 6, seed=2)
    lengths = torch.linspace(1, 3, 5)[:, None] * scale
    targets = msn_targets(embeddings, prototypes)
    torch.testing.assert_close(msn_targets(embeddings * scale, prototypes * lengths), targets, rtol=1e-3, atol=1e-6)
    scaled = msn_loss(targets, anchors * scale, prototypes * lengths)
    torch.testing.assert_close(scaled, msn_loss(targets, anchors, prototypes), rtol=1e-4, atol=1e-5)


@given(st.permutations(range(6)))
def test_the_order_of_the_batch_does_not_matter(order: list[int]):
    anchors, embeddings, prototypes = normal(3, 6, 8), normal(6, 8, seed=1), normal(5, 8, seed=2)
    loss = msn_loss(msn_targets(embeddings, prototypes), anchors, prototypes)
    permuted = msn_loss(msn_targets(embeddings[order], prototypes), anchors[:, order], prototypes)
    torch.testing.assert_close(permuted, loss, rtol=1e-5, atol=1e-5)


def test_predictions_that_say_nothing_cost_ln_k():
    """Prototypes all alike: every prediction is uniform, and so is their mean, which costs nothing more."""
    prototypes = normal(1, 8).expand(64, 8)
    targets = msn_targets(normal(16, 8, seed=1), normal(64, 8, seed=2))
    assert msn_loss(targets, normal(11, 16, 8, seed=3), prototypes) == pytest.approx(math.log(64), abs=1e-5)


def test_uniform_targets_cost_at_least_ln_k():
    uniform = torch.full((16, 64), 1 / 64)
    loss = msn_loss(uniform, normal(11, 16, 8), normal(64, 8, seed=1), mean_entropy_weight=0.0)
    assert loss > math.log(64)


def test_an_embedding_of_length_zero_is_undecided():
    prototypes = normal(5, 6)
    predicted = msn_log_predictions(torch.zeros(2, 6), prototypes)
    torch.testing.assert_close(predicted, torch.full((2, 5), -math.log(5)))


def test_half_precision_and_autocast_are_handled_in_float32():
    anchors, embeddings = normal(3, 4, 6).bfloat16(), normal(4, 6, seed=1).bfloat16()
    prototypes = normal(5, 6, seed=2)
    targets = msn_targets(embeddings, prototypes)
    loss = msn_loss(targets, anchors, prototypes)
    assert targets.dtype == loss.dtype == torch.float32
    assert torch.equal(targets, msn_targets(embeddings.float(), prototypes))
    assert torch.equal(loss, msn_loss(targets, anchors.float(), prototypes))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(msn_targets(embeddings, prototypes), targets)
        assert torch.equal(msn_loss(targets, anchors, prototypes), loss)


# ---- the targets


def test_sharpening_keeps_the_favourite_and_raises_it():
    embeddings, prototypes = normal(20, 6), normal(5, 6, seed=1)
    plain = msn_targets(embeddings, prototypes, sharpening=1.0, iterations=0)
    torch.testing.assert_close(plain, msn_log_predictions(embeddings, prototypes).exp())
    sharp = msn_targets(embeddings, prototypes, sharpening=0.25, iterations=0)
    torch.testing.assert_close(sharp, plain**4 / (plain**4).sum(dim=-1, keepdim=True), rtol=1e-4, atol=1e-7)
    assert torch.equal(sharp.argmax(dim=-1), plain.argmax(dim=-1))
    assert (sharp.amax(dim=-1) > plain.amax(dim=-1)).all()


def test_identical_images_get_uniform_targets():
    targets = msn_targets(normal(1, 6).expand(16, -1), normal(20, 6, seed=1))
    torch.testing.assert_close(targets, torch.full((16, 20), 1 / 20), atol=1e-5, rtol=0)


# ---- the entropy term


def test_a_uniform_mean_costs_nothing_even_if_each_anchor_is_sure():
    each_its_own = torch.eye(8)  # 8 anchors in 2 views, each on a prototype of its own
    predicted = msn_log_predictions(each_its_own.reshape(2, 4, 8), torch.eye(8), temperature=0.05)
    assert predicted.exp().amax(dim=-1).min() > 0.99
    assert mean_entropy_gap(predicted) == pytest.approx(0, abs=1e-6)


def test_anchors_that_all_agree_cost_ln_k():
    predicted = msn_log_predictions(torch.eye(8)[:1].expand(2, 4, 8), torch.eye(8), temperature=0.01)
    assert mean_entropy_gap(predicted) == pytest.approx(math.log(8), rel=1e-5)


@given(st.integers(0, 1000), st.integers(2, 9), st.sampled_from([1e-4, 0.01, 0.1, 1.0]))
def test_the_entropy_term_lies_between_zero_and_ln_k_and_only_uniform_is_zero(seed: int, k: int, temperature: float):
    predicted = msn_log_predictions(normal(2, 5, 6, seed=seed), normal(k, 6, seed=seed + 1), temperature)
    gap, mean = float(mean_entropy_gap(predicted)), predicted.double().exp().mean(dim=(0, 1))
    assert gap == pytest.approx(math.log(k) + float(torch.special.xlogy(mean, mean).sum()), abs=1e-5)
    assert -1e-6 <= gap <= math.log(k) + 1e-6
    distance = float((mean - 1 / k).abs().sum())
    assert gap >= distance**2 / 2 - 1e-5  # Pinsker: the gap is the divergence from the uniform distribution


def test_the_entropy_terms_gradient_is_that_of_the_formula():
    logits = normal(3, 5, 6).requires_grad_()
    (gradient,) = torch.autograd.grad(mean_entropy_gap(logits.log_softmax(dim=-1)), logits)
    exact = logits.detach().double().requires_grad_()
    mean = exact.softmax(dim=-1).mean(dim=(0, 1))
    (expected,) = torch.autograd.grad((mean * mean.log()).sum(), exact)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-7)


def test_the_entropy_terms_gradient_is_finite_where_a_prototype_is_never_used():
    logits = (normal(2, 4, 5) - torch.tensor([0.0, 0.0, 0.0, 0.0, 1e4])).requires_grad_()
    predicted = logits.log_softmax(dim=-1)
    assert predicted.exp()[..., -1].max() == 0
    mean_entropy_gap(predicted).backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().sum() > 0


def part_of_the_batch(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    anchors, embeddings = (x.chunk(world_size, dim=-2)[rank] for x in (normal(3, 8, 6), normal(8, 6, seed=1)))
    prototypes = normal(5, 6, seed=2).requires_grad_()
    loss = msn_loss(msn_targets(embeddings, prototypes), anchors, prototypes)
    torch.save((loss.detach(), *torch.autograd.grad(loss, prototypes)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_average_to_the_loss_and_gradient_of_the_joint_batch(tmp_path: Path):
    multiprocessing.spawn(part_of_the_batch, args=(2, str(tmp_path)), nprocs=2)
    losses, gradients = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    prototypes = normal(5, 6, seed=2).requires_grad_()
    joint = msn_loss(msn_targets(normal(8, 6, seed=1), prototypes), normal(3, 8, 6), prototypes)
    torch.testing.assert_close(torch.stack(losses).mean(), joint.detach())
    expected = torch.autograd.grad(joint, prototypes)[0]
    torch.testing.assert_close(torch.stack(gradients).mean(dim=0), expected, rtol=1e-4, atol=1e-6)


# ---- heads and prototypes


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_student_head_and_prototypes_learn_and_the_teacher_does_not(norm: str):
    torch.manual_seed(0)
    student, teacher, prototypes = MsnHead(8, norm), MsnHead(8, norm), MsnPrototypes(5)
    cls, teacher_cls = normal(3, 4, 8).requires_grad_(), normal(4, 8, seed=1).requires_grad_()
    targets = msn_targets(teacher(teacher_cls), prototypes.weight)
    assert not targets.requires_grad
    msn_loss(targets, torch.stack([student(view) for view in cls]), prototypes.weight).backward()
    assert teacher_cls.grad is None and all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert prototypes.weight.grad.abs().sum() > 0
    assert (cls.grad.flatten(1).abs().sum(dim=1) > 0).all()  # every view


def test_targets_that_carry_a_gradient_are_cut_off():
    targets, anchors = normal(4, 5).softmax(dim=-1).requires_grad_(), normal(3, 4, 6).requires_grad_()
    msn_loss(targets, anchors, normal(5, 6, seed=1)).backward()
    assert targets.grad is None and anchors.grad.abs().sum() > 0


@pytest.mark.parametrize(("norm", "alone"), [("batch", False), ("layer", True), ("none", True)])
def test_only_batch_norm_makes_an_image_depend_on_its_batch(norm: str, alone: bool):
    torch.manual_seed(0)
    head, cls = MsnHead(8, norm).train(), normal(6, 8)
    together, first_half = head(cls)[:3], head(cls[:3])
    assert torch.allclose(together, first_half, atol=1e-5) is alone
    assert torch.allclose(copy.deepcopy(head).eval()(cls), head(cls), atol=1e-5) is alone


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_the_heads_norm_stands_before_both_activations(norm: str):
    torch.manual_seed(0)
    head, cls = MsnHead(8, norm).train(), normal(6, 8)

    def normed(x: Tensor) -> Tensor:
        if norm == "none":
            return x
        over = 0 if norm == "batch" else 1
        return (x - x.mean(over, keepdim=True)) / (x.var(over, correction=0, keepdim=True) + 1e-5).sqrt()

    x = cls
    linear = [layer for layer in head.layers if isinstance(layer, torch.nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linear] == [(2048, 8), (2048, 2048), (256, 2048)]
    for layer in linear[:2]:
        x = torch.nn.functional.gelu(normed(x @ layer.weight.t() + layer.bias))
    torch.testing.assert_close(head(cls), x @ linear[2].weight.t() + linear[2].bias, rtol=1e-3, atol=1e-4)


def test_prototypes_start_uniform_and_of_no_common_length():
    torch.manual_seed(0)
    weight = MsnPrototypes(64).weight.detach()
    assert weight.shape == (64, 256)
    assert weight.abs().max() <= 1 / 16 and weight.abs().max() > 0.99 / 16
    assert weight.std() == pytest.approx(1 / 16 / math.sqrt(3), rel=0.02)
    assert weight.norm(dim=-1).std() > 0
