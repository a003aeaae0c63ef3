"""Projection head, prototypes, detection head and attention aggregation: closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flawmap.paper.heads import INITIAL_MAP_MEAN, AttentionAggregation, DetectionHead
from flawmap.paper.projection import ProjectionHead, Prototypes


def test_projections_and_prototypes_lie_on_the_unit_sphere():
    torch.manual_seed(0)
    z = ProjectionHead(64)(torch.randn(5, 64))
    prototypes = Prototypes(20)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(prototypes.weight.norm(dim=-1), torch.ones(20))
    with torch.no_grad():
        prototypes.weight.mul_(7).add_(0.1)
    prototypes.normalize()
    torch.testing.assert_close(prototypes.weight.norm(dim=-1), torch.ones(20))
    assert prototypes(z).abs().max() <= 1 + 1e-6


def test_the_center_is_subtracted_before_the_norm():
    torch.manual_seed(0)
    head, cls, center = ProjectionHead(64), torch.randn(5, 64), torch.randn(256)
    expected = torch.nn.functional.normalize(head.layers(cls) - center, dim=-1)
    torch.testing.assert_close(head(cls, center), expected)


def test_head_sizes_are_the_papers():
    shapes = [tuple(p.shape) for p in ProjectionHead(384).parameters() if p.ndim == 2]
    assert shapes == [(2048, 384), (2048, 2048), (256, 2048)]
    shapes = [tuple(p.shape) for p in DetectionHead(384).parameters() if p.ndim == 2]
    assert shapes == [(2048, 384), (2048, 2048), (256, 2048), (2, 256)]


def test_the_detection_head_can_reach_any_certainty():
    """With the l2 bottleneck of stage 1 its cross-entropy could not fall below log(1 + e^-2) = 0.127."""
    torch.manual_seed(0)
    head, cls = DetectionHead(8), torch.randn(4, 8)
    labels = torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(head(cls), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


@given(st.integers(2, 12), st.integers(4, 1024))
def test_evenly_spread_attention_has_the_same_map_at_every_size(heads: int, patches: int):
    """N A_l = 1 everywhere: the evidence is the sum of the weights, whatever the number of patches."""
    aggregation = AttentionAggregation(heads)
    attention = torch.full((1, heads, patches), 1 / patches)
    evidence = aggregation(attention)
    torch.testing.assert_close(evidence, torch.ones(1, patches), atol=1e-5, rtol=0)
    probability = aggregation.probability(evidence)
    torch.testing.assert_close(probability, torch.full((1, patches), INITIAL_MAP_MEAN), atol=1e-5, rtol=0)


def test_aggregation_is_a_weighted_sum_without_renormalisation():
    aggregation = AttentionAggregation(2)
    with torch.no_grad():
        aggregation.weight.copy_(torch.tensor([2.0, -1.0]))
        aggregation.bias.fill_(-3.0)
    attention = torch.tensor([[[0.1, 0.2, 0.0], [0.3, 0.0, 0.1]]])  # rows sum to 0.3 and 0.4, not to 1
    expected = 3 * torch.tensor([[2 * 0.1 - 0.3, 2 * 0.2, -0.1]])
    torch.testing.assert_close(aggregation(attention), expected)
    torch.testing.assert_close(aggregation.probability(aggregation(attention)), (expected - 3).sigmoid())


def test_evidence_keeps_differences_that_vanish_beside_the_bias():
    aggregation = AttentionAggregation(1)
    evidence = aggregation(torch.tensor([[[1e-9, 2e-9]]])).detach()
    assert evidence[0, 1] == pytest.approx(2 * evidence[0, 0].item())
    with_bias = aggregation.bias + evidence
    assert with_bias[0, 0] == with_bias[0, 1]


def test_aggregation_stays_exact_under_autocast():
    aggregation, attention = AttentionAggregation(6), torch.rand(2, 6, 100) / 100
    expected = aggregation(attention)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(aggregation(attention), expected)
