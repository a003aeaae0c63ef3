"""The paper's scorer: what it returns, how its map grows, and that it is made of the parts it names."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flawmap.paper.heads import PaperHead, image_logit
from flawmap.recipe.settings import ModelSettings
from flawmap.scorer import upsample_map
from flawmap.vit.weights import load_encoder


@pytest.fixture
def scorer() -> PaperHead:
    encoder, _ = load_encoder(ModelSettings("random", "test_vit"))
    torch.manual_seed(0)
    head = PaperHead(encoder)
    with torch.no_grad():
        encoder.vit.blocks[-1].attn.qkv.weight.mul_(8)
        head.aggregation.weight.copy_(torch.tensor([2.0, -0.5]))
    return head.eval()


def images(height: int, width: int, number: int = 2) -> torch.Tensor:
    return torch.randn(number, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_logits_and_evidence_come_from_cls_token_and_cls_attention(scorer: PaperHead):
    x = images(48, 80)
    with torch.no_grad():
        logits, evidence = scorer(x)
        output = scorer.encoder(x)
        expected = scorer.detection.neurons(scorer.detection.layers(output.cls))
    torch.testing.assert_close(logits, expected)
    heads = output.cls_attention.unflatten(-1, (3, 5)) * 15  # three rows of five patches
    torch.testing.assert_close(evidence, 2.0 * heads[:, 0] - 0.5 * heads[:, 1])
    assert logits.dtype == evidence.dtype == torch.float32


def test_an_image_does_not_depend_on_its_batch(scorer: PaperHead):
    x = images(64, 64, 5)
    with torch.no_grad():
        together, alone = scorer(x), scorer(x[2:3])
    for of_all, of_one in zip(together, alone, strict=True):
        torch.testing.assert_close(of_all[2:3], of_one, atol=1e-5, rtol=1e-4)


def test_autocast_leaves_logits_and_evidence_in_float32(scorer: PaperHead):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits, evidence = scorer(images(32, 32))
    assert logits.dtype == evidence.dtype == torch.float32


def test_sides_that_are_no_multiple_of_the_patch_are_refused(scorer: PaperHead):
    with pytest.raises(ValueError, match="40x48 px is not a multiple of the patch size 16"):
        scorer(images(40, 48))


def test_a_scorer_read_back_from_its_tensors_is_the_same(scorer: PaperHead):
    encoder, _ = load_encoder(ModelSettings("random", "test_vit"), seed=5)
    other = PaperHead(encoder).eval()
    with torch.no_grad():
        assert not torch.equal(other(images(32, 32))[1], scorer(images(32, 32))[1])
        other.load_state_dict(scorer.state_dict())
        for a, b in zip(other(images(32, 32)), scorer(images(32, 32)), strict=True):
            assert torch.equal(a, b)


# ---- image logit and upsampling


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_the_image_logit_is_that_of_the_softmax(normal: float, anomalous: float):
    logits = torch.tensor([[normal, anomalous]], dtype=torch.float64)
    probability = logits.softmax(dim=-1)[0, 1]
    assert image_logit(logits).sigmoid().item() == pytest.approx(probability.item(), rel=1e-9)


def test_the_image_logit_does_not_saturate():
    logits = torch.tensor([[0.0, 100.0], [0.0, 101.0]])
    assert logits.softmax(dim=-1)[0, 1] == logits.softmax(dim=-1)[1, 1] == 1
    assert image_logit(logits)[0] < image_logit(logits)[1]


def test_upsampling_is_bilinear_between_patch_centres():
    evidence = torch.tensor([[[0.0, 4.0], [8.0, 12.0]]])
    rows = torch.tensor([0.0, 1.0, 3.0, 4.0])  # four pixels: the outer ones lie beyond the centres and repeat them
    expected = 2 * rows[:, None] + rows[None, :]
    torch.testing.assert_close(upsample_map(evidence, 4, 4)[0], expected)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.floats(-5, 5))
def test_upsampling_keeps_constants_and_range(rows: int, columns: int, times: int, value: float):
    flat = upsample_map(torch.full((2, rows, columns), value), rows * times, columns * times)
    torch.testing.assert_close(flat, torch.full((2, rows * times, columns * times), value))
    noise = torch.rand(1, rows, columns, generator=torch.Generator().manual_seed(rows))
    grown = upsample_map(noise, rows * times, columns * times)
    assert grown.min() >= noise.min() - 1e-6 and grown.max() <= noise.max() + 1e-6
