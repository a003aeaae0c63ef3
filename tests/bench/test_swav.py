"""SwAV: the formula in loops, lightly's loss, which pairs count, where gradients go."""

import math

import numpy as np
import pytest
import torch
from by_hand import balanced
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flawmap.paper.clusters import cluster_agreement_loss, sinkhorn
from flawmap.paper.projection import ProjectionHead, Prototypes
from flawmap_bench.objectives.swav import swav_loss, swav_targets


def cosines(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def plan_by_hand(scores: Tensor, epsilon: float, iterations: int) -> np.ndarray:
    return balanced(np.exp(scores.double().numpy() / epsilon), iterations)


def cross_entropy_by_hand(target: np.ndarray, logits: Tensor, temperature: float) -> float:
    scaled = [float(logit) / temperature for logit in logits]
    log_sum = math.log(sum(math.exp(s) for s in scaled))
    return -sum(float(q) * (s - log_sum) for q, s in zip(target, scaled, strict=True))


def loss_by_hand(scores: Tensor, num_global: int, epsilon: float, temperature: float) -> float:
    num_views, batch, _ = scores.shape
    total = 0.0
    for t in range(num_global):
        plan = plan_by_hand(scores[t], epsilon, 3)
        for s in range(num_views):
            if s != t:
                for b in range(batch):
                    total += cross_entropy_by_hand(plan[b], scores[s, b], temperature) / batch / (num_views - 1)
    return total / num_global


# ---- the loss


@given(st.integers(1, 2), st.integers(1, 3), st.integers(2, 6))
def test_equals_the_formula_in_loops(num_global: int, num_local: int, prototypes: int):
    scores = cosines(num_global + num_local, 4, prototypes, seed=prototypes)
    loss = swav_loss(swav_targets(scores[:num_global], 0.05), scores, 0.1)
    assert loss == pytest.approx(loss_by_hand(scores, num_global, 0.05, 0.1), rel=1e-4)


def test_equals_lightlys():
    theirs = pytest.importorskip("lightly.loss").SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)
    ours, parameter = cosines(8, 16, 20).requires_grad_(), cosines(8, 16, 20).requires_grad_()
    expected = theirs(list(parameter[:2]), list(parameter[2:]))[0]
    loss = swav_loss(swav_targets(ours[:2], 0.05), ours)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss, ours)[0], torch.autograd.grad(expected, parameter)[0]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_a_small_epsilon_overflows_lightlys_targets_and_not_ours():
    """lightly takes plain exponentials: exp(0.9 / 0.005) is beyond float32. Ours stays in logarithms."""
    swav = pytest.importorskip("lightly.loss.swav_loss")
    scores = cosines(2, 6, 5) * 0.1 + 0.8
    theirs = swav.sinkhorn(scores[0], iterations=3, epsilon=0.005)
    assert not theirs.isfinite().all()
    expected = np.stack([plan_by_hand(view, 0.005, 3) for view in scores])
    np.testing.assert_allclose(swav_targets(scores, 0.005).numpy(), expected, atol=1e-4)


def test_two_global_views_alone_are_swapped():
    scores = cosines(2, 4, 3)
    first, second = (plan_by_hand(view, 0.05, 3) for view in scores)
    swapped = [cross_entropy_by_hand(first[b], scores[1, b], 0.1) for b in range(4)]
    swapped += [cross_entropy_by_hand(second[b], scores[0, b], 0.1) for b in range(4)]
    assert swav_loss(swav_targets(scores, 0.05), scores) == pytest.approx(sum(swapped) / 8, rel=1e-5)


def test_a_view_never_predicts_its_own_target():
    """With targets for one global view only, its own scores get no gradient at all."""
    scores = cosines(3, 4, 5).requires_grad_()
    swav_loss(swav_targets(scores[:1], 0.05), scores).backward()
    assert scores.grad[0].abs().sum() == 0
    assert (scores.grad[1:].flatten(1).abs().sum(dim=1) > 0).all()


def test_one_target_view_is_equation_1_on_the_other_views():
    scores = cosines(5, 4, 6)
    targets = swav_targets(scores[:1], 0.05)
    expected = cluster_agreement_loss(targets[0], scores[1:], 0.1)
    torch.testing.assert_close(swav_loss(targets, scores, 0.1), expected)


def test_a_single_view_has_nothing_to_be_compared_with():
    with pytest.raises(ValueError, match="no pair of different views"):
        swav_loss(swav_targets(cosines(1, 4, 5), 0.05), cosines(1, 4, 5))


@given(st.permutations(range(6)))
def test_the_order_of_the_batch_does_not_matter(order: list[int]):
    scores = cosines(4, 6, 5)
    permuted = scores[:, order]
    torch.testing.assert_close(
        swav_loss(swav_targets(permuted[:2], 0.05), permuted), swav_loss(swav_targets(scores[:2], 0.05), scores)
    )


# ---- the targets


def test_each_view_is_balanced_on_its_own():
    scores = cosines(2, 16, 20) + torch.tensor([0.0, 0.3]).reshape(2, 1, 1) * torch.linspace(-1, 1, 20)
    targets = swav_targets(scores, 0.05)
    for view in range(2):
        assert torch.equal(targets[view], sinkhorn(scores[view], 0.05, 3))
    together = sinkhorn(scores.flatten(0, 1), 0.05, 3).unflatten(0, (2, 16))
    assert not torch.allclose(targets, together, atol=1e-2)


def test_identical_images_get_uniform_targets_which_cost_at_least_ln_k():
    scores = cosines(4, 1, 20).expand(4, 16, 20)
    targets = swav_targets(scores[:2], 0.05)
    torch.testing.assert_close(targets, torch.full((2, 16, 20), 1 / 20), atol=1e-5, rtol=0)
    assert swav_loss(targets, scores) > math.log(20)
    assert swav_loss(targets, torch.zeros(4, 16, 20)) == pytest.approx(math.log(20), abs=1e-5)


def test_predictions_that_say_nothing_cost_ln_k():
    targets = swav_targets(cosines(2, 16, 20), 0.05)
    assert swav_loss(targets, torch.full((8, 16, 20), 0.5)) == pytest.approx(math.log(20), abs=1e-5)


@pytest.mark.parametrize("epsilon", [0.005, 0.05])
def test_huge_scores_stay_finite(epsilon: float):
    scores = (cosines(4, 6, 5).sign() * 1e4).requires_grad_()
    targets = swav_targets(scores[:2], epsilon)
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(2, 6), atol=1e-4, rtol=0)
    loss = swav_loss(targets, scores)
    loss.backward()
    assert loss.isfinite() and loss > 0 and scores.grad.isfinite().all()


def test_half_precision_scores_are_handled_in_float32():
    scores = cosines(4, 6, 5).bfloat16()
    targets = swav_targets(scores[:2], 0.05)
    assert targets.dtype == torch.float32 and torch.equal(targets, swav_targets(scores[:2].float(), 0.05))
    assert torch.equal(swav_loss(targets, scores), swav_loss(targets, scores.float()))


# ---- the network


def test_head_and_prototypes_learn_and_targets_carry_no_gradient():
    torch.manual_seed(0)
    head, prototypes = ProjectionHead(8), Prototypes(20)
    cls = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    scores = torch.stack([prototypes(head(view)) for view in cls])
    targets = swav_targets(scores[:2], 0.05)
    assert not targets.requires_grad
    loss = swav_loss(targets, scores)
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in (*head.parameters(), *prototypes.parameters()))
    assert (cls.grad.flatten(1).abs().sum(dim=1) > 0).all()  # every view
    # the only way into C is through the predictions: dL/dC = sum (softmax - q) z / tau over the compared pairs
    expected = torch.zeros(20, 256)
    with torch.no_grad():
        predictions = (scores / 0.1).softmax(dim=-1)
        for t in range(2):
            for s in range(4):
                if s != t:
                    expected += (predictions[s] - targets[t]).t() @ head(cls[s]) / 0.1 / 6 / 6
    torch.testing.assert_close(prototypes.weight.grad, expected, rtol=1e-3, atol=1e-5)


def test_prototypes_have_no_bias():
    """lightly's have one: a preference for a cluster that no image asks for."""
    heads = pytest.importorskip("lightly.models.modules.heads")
    assert [name for name, _ in Prototypes(20).named_parameters()] == ["weight"]
    assert Prototypes(20)(torch.zeros(3, 256)).abs().max() == 0
    theirs = heads.SwaVPrototypes(256, 20)
    assert theirs(torch.zeros(3, 256)).abs().max() > 0
