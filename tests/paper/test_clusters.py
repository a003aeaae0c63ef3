"""Equation 1 and Sinkhorn-Knopp: closed forms, invariants, an independent implementation, several processes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, multiprocessing
from torch import distributed as dist

from flawmap.paper.clusters import (
    cluster_agreement_loss,
    entropy,
    gather_batch,
    own_rows,
    prototypes_used,
    sinkhorn,
)


def scores(batch: int, prototypes: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, prototypes, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def textbook_sinkhorn(matrix: Tensor, epsilon: float, iterations: int) -> Tensor:
    """SwAV's description, in float64 and without logarithms."""
    plan = np.exp(matrix.double().numpy() / epsilon).T
    plan /= plan.sum()
    prototypes, batch = plan.shape
    for _ in range(iterations):
        plan /= plan.sum(axis=1, keepdims=True) * prototypes
        plan /= plan.sum(axis=0, keepdims=True) * batch
    return torch.from_numpy((plan * batch).T).float()


@given(st.integers(2, 40), st.integers(2, 30), st.sampled_from([0.05, 0.1, 0.5]), st.integers(1, 5))
def test_equals_the_textbook_form(batch: int, prototypes: int, epsilon: float, iterations: int):
    given_scores = scores(batch, prototypes, batch * 31 + prototypes)
    ours = sinkhorn(given_scores, epsilon, iterations)
    torch.testing.assert_close(ours, textbook_sinkhorn(given_scores, epsilon, iterations), atol=1e-5, rtol=1e-4)


def test_equals_lightlys():
    swav = pytest.importorskip("lightly.loss.swav_loss")
    given_scores = scores(32, 20)
    theirs = swav.sinkhorn(given_scores, iterations=3, epsilon=0.05)
    torch.testing.assert_close(sinkhorn(given_scores, 0.05, 3), theirs, atol=1e-5, rtol=1e-4)


@given(st.integers(1, 40), st.integers(2, 30), st.floats(0.001, 1))
def test_rows_are_distributions(batch: int, prototypes: int, epsilon: float):
    plan = sinkhorn(scores(batch, prototypes, 7), epsilon, 3)
    assert plan.isfinite().all() and (plan >= 0).all()
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(batch), atol=1e-4, rtol=0)


def test_many_iterations_use_every_prototype_equally():
    plan = sinkhorn(scores(60, 20), 0.2, 100)
    torch.testing.assert_close(plan.sum(dim=0), torch.full((20,), 3.0), atol=1e-3, rtol=0)


def test_a_preference_shared_by_all_samples_is_taken_out():
    """Adding a constant per prototype cannot change the balanced plan: that is what prevents collapse."""
    given_scores, bias = scores(30, 10), torch.linspace(-0.3, 0.3, 10)
    torch.testing.assert_close(
        sinkhorn(given_scores, 0.1, 200), sinkhorn(given_scores + bias, 0.1, 200), atol=1e-3, rtol=0
    )


def test_no_overflow_where_exponentials_would():
    plan = sinkhorn(scores(8, 5) * 100, 0.005, 3)  # exp(20000) is far beyond float32
    assert plan.isfinite().all()


def test_bf16_scores_are_balanced_in_float32():
    plan = sinkhorn(scores(16, 20).bfloat16(), 0.05, 3)
    assert plan.dtype == torch.float32
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(16), atol=1e-5, rtol=0)


def test_identical_samples_get_uniform_targets():
    plan = sinkhorn(scores(1, 20).expand(16, -1), 0.05, 3)
    torch.testing.assert_close(plan, torch.full((16, 20), 1 / 20), atol=1e-5, rtol=0)
    assert entropy(plan) == pytest.approx(math.log(20), abs=1e-4)


# ---- the loss


def test_loss_of_uninformative_predictions_is_ln_k():
    targets = sinkhorn(scores(16, 20), 0.05)
    assert cluster_agreement_loss(targets, torch.zeros(9, 16, 20), 0.1) == pytest.approx(math.log(20), abs=1e-5)


def test_loss_is_the_mean_over_views_and_batch():
    targets, student = sinkhorn(scores(4, 6), 0.1), torch.stack([scores(4, 6, seed) for seed in (1, 2, 3)])
    by_hand = 0.0
    for view in range(3):
        for i in range(4):
            exponentials = [math.exp(float(s) / 0.1) for s in student[view, i]]
            for k in range(6):
                by_hand -= float(targets[i, k]) * math.log(exponentials[k] / sum(exponentials))
    assert cluster_agreement_loss(targets, student, 0.1) == pytest.approx(by_hand / 12, rel=1e-5)


def test_no_gradient_flows_into_the_targets():
    teacher = scores(4, 6).requires_grad_()
    student = scores(4, 6, 1)[None].requires_grad_()
    cluster_agreement_loss(sinkhorn(teacher, 0.05), student, 0.1).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_prototypes_used_counts_favourites():
    assert prototypes_used(torch.tensor([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])) == 2


# ---- several processes


def balance_own_part(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    joint = scores(24, 20)
    part = joint.chunk(world_size)[rank].clone()
    torch.save((sinkhorn(part, 0.05, 3), gather_batch(part)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_balance_the_joint_batch(tmp_path: Path):
    multiprocessing.spawn(balance_own_part, args=(2, str(tmp_path)), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), sinkhorn(scores(24, 20), 0.05, 3))
    assert torch.equal(parts[0][1], scores(24, 20)) and torch.equal(parts[1][1], scores(24, 20))
    alone = sinkhorn(scores(24, 20)[:12], 0.05, 3)
    assert not torch.allclose(parts[0][0], alone, atol=1e-3)  # it really was balanced together


def test_a_single_process_keeps_its_rows():
    rows = scores(4, 3)
    assert gather_batch(rows) is rows and own_rows(rows, 4) is rows
