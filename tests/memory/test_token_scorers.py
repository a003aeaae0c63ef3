"""Memory, residual head and both: what they say of images, by hand and on a small real encoder."""

from dataclasses import replace

import pytest
import torch

from flawmap.memory.residual_head import ResidualHead
from flawmap.memory.scorer import (
    TOKEN_SCORERS,
    Evidence,
    FusedScorer,
    MemoryScorer,
    Standardisation,
    build_scorer,
    smoothed,
)
from flawmap.recipe.settings import MemorySettings, Recipe, ResidualSettings
from flawmap.vit.encoder import Encoder
from flawmap.vit.weights import build_vit

RECIPE = Recipe(memory=MemorySettings(blocks=(1, 2), tokens=12, image_share=0.25), residual=ResidualSettings(hidden=8))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(build_vit("test_vit", 0.0)).eval()


def scorer_of(name: str, encoder: Encoder):
    torch.manual_seed(1)
    scorer = build_scorer(encoder, replace(RECIPE, method=name)).eval()
    scorer.memory.tokens = torch.randn(scorer.memory.tokens.shape)
    scorer.memory.normalise()
    return scorer


def images_of(encoder: Encoder, count: int, seed: int = 0) -> torch.Tensor:
    side = 4 * encoder.patch_size_px
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def evidence_of(scorer, images: torch.Tensor) -> list[Evidence]:
    """Image by image; none of them is in the memory."""
    return [scorer.evidence(image) for image in images.split(1)]


@pytest.mark.parametrize("name", list(TOKEN_SCORERS))
@torch.no_grad()
def test_scores_do_not_depend_on_the_batch(name: str, encoder: Encoder):
    scorer, images = scorer_of(name, encoder), images_of(encoder, 3)
    scorer.fit_map_scales(evidence_of(scorer, images_of(encoder, 4, seed=5)))
    together = scorer.score(images)
    assert together.image.shape == (3,) and together.evidence.shape == (3, 4, 4)
    alone = [scorer.score(images[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat([one.image for one in alone]), together.image, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat([one.evidence for one in alone]), together.evidence, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_memory_scorer_is_the_mean_standardised_distance(encoder: Encoder):
    scorer, images = scorer_of("memory", encoder), images_of(encoder, 2)
    scorer.memory.mean.copy_(torch.tensor([0.4, 0.5]))
    scorer.memory.deviation.copy_(torch.tensor([0.1, 0.2]))
    output = scorer.score(images)
    expected = torch.zeros(2, 16)
    blocks = encoder(images, blocks=(0, 1)).block_tokens
    for block in (0, 1):
        tokens = torch.nn.functional.layer_norm(blocks[block], blocks[block].shape[-1:])
        cosines = torch.cosine_similarity(tokens[:, :, None], scorer.memory.unit[block][None, None], dim=-1)
        distance = 1 - cosines.max(dim=-1).values
        expected += (distance - scorer.memory.mean[block]) / scorer.memory.deviation[block] / 2
    torch.testing.assert_close(output.evidence, smoothed(expected.reshape(2, 4, 4)), atol=2e-4, rtol=1e-3)
    highest = expected.sort(dim=1, descending=True).values[:, :4].mean(dim=1)  # a quarter of 16 patches
    torch.testing.assert_close(output.image, highest, atol=2e-4, rtol=1e-3)


def batches_of(scorer, images: torch.Tensor):
    """Their appearances and numbers, and one by one their tokens and the nearest ones; they are in no memory."""
    appearances, tokens = scorer.taken.of_images(scorer.frozen, images)
    return appearances, torch.arange(len(images)), [(one, scorer.memory.nearest(one)) for one in tokens.split(1)]


@pytest.mark.parametrize("name", list(TOKEN_SCORERS))
@torch.no_grad()
def test_on_the_images_that_scales_come_from_scores_have_mean_0_and_about_deviation_1(name: str, encoder: Encoder):
    scorer, images = scorer_of(name, encoder), images_of(encoder, 6)
    appearances, numbers, batches = batches_of(scorer, images)
    scorer.fit_expectation(appearances, numbers, batches)
    scorer.fit_map_scales(evidence_of(scorer, images))
    expected, _ = scorer.expectation(
        appearances, exclude=torch.eye(6).bool()
    )  # each image without itself among its like
    beyond = scorer.expectation.tops[:, 0] - expected[:, 0]
    standardised, variance = scorer.image_scales[0](beyond), float(beyond.var(correction=0))
    assert standardised.mean().item() == pytest.approx(0, abs=1e-4)
    # six images are few: there is another one, which lies one away from the mean
    shrunk = (variance / (variance + 1 / 6)) ** 0.5
    assert standardised.std(correction=0).item() == pytest.approx(shrunk, abs=1e-4)
    maps = scorer.score(images).evidence
    assert maps.mean().item() == pytest.approx(0, abs=0.3)  # smoothing weighs the border a little more


@pytest.mark.parametrize("name", list(TOKEN_SCORERS))
@torch.no_grad()
def test_images_that_a_map_s_scales_come_from_leave_the_image_score_alone(name: str, encoder: Encoder):
    scorer, images = scorer_of(name, encoder), images_of(encoder, 3)
    scorer.fit_expectation(*batches_of(scorer, images_of(encoder, 5, seed=9)))
    scores = []
    for seed in (5, 6):
        scorer.fit_map_scales(evidence_of(scorer, images_of(encoder, 4, seed=seed)))
        scores.append(scorer.score(images))
    assert torch.equal(scores[0].image, scores[1].image)
    assert not torch.allclose(scores[0].evidence, scores[1].evidence)


@torch.no_grad()
def test_the_fused_scorer_has_the_memory_s_image_score_and_a_weighted_sum_of_maps(encoder: Encoder):
    fused, images = scorer_of("fused", encoder), images_of(encoder, 3)
    memory, residual = scorer_of("memory", encoder), scorer_of("residual", encoder)
    for other in (memory, residual):
        other.memory.load_state_dict(fused.memory.state_dict())
    assert isinstance(fused, FusedScorer) and isinstance(memory, MemoryScorer)
    residual.head.load_state_dict(fused.head.state_dict())
    for scorer in (fused, memory, residual):
        good = images_of(encoder, 5, seed=9)
        scorer.fit_expectation(*batches_of(scorer, good))
        scorer.fit_map_scales(evidence_of(scorer, good))
    ours, first, second = (scorer.score(images) for scorer in (fused, memory, residual))
    torch.testing.assert_close(ours.image, first.image, atol=1e-4, rtol=1e-4)
    expected = fused.map_weights[0] * first.evidence + fused.map_weights[1] * second.evidence
    torch.testing.assert_close(ours.evidence, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_map_scales_from_an_image_of_the_memory_leave_its_own_tokens_out(encoder: Encoder):
    """As if the memory had never held them; otherwise its distances would be 0, and deviations far too small."""
    image = images_of(encoder, 1, seed=3)
    scorer, without = scorer_of("memory", encoder), scorer_of("memory", encoder)
    own = torch.nn.functional.normalize(encoder.tokens_of(image, (0, 1)), dim=-1)[0].transpose(0, 1)  # (l, n, d)
    scorer.memory.tokens[:, :6] = own[:, :6]
    scorer.memory.sources[:, :6], scorer.memory.sources[:, 6:] = 0, 1
    without.memory.tokens[:, :6] = without.memory.tokens[:, 6:7]  # a token that is there anyway
    for memory in (scorer.memory, without.memory):
        memory.normalise()
    appearance, tokens = scorer.taken.of_images(scorer.frozen, image)
    nearest = scorer.memory.nearest(tokens, exclude=torch.tensor([0]))
    scorer.fit_map_scales([scorer.evidence_in(appearance, tokens, nearest)])
    without.fit_map_scales(evidence_of(without, image))
    for name, value in without.map_scales.state_dict().items():
        torch.testing.assert_close(scorer.map_scales.state_dict()[name], value)
    scorer.fit_map_scales(evidence_of(scorer, image))
    assert scorer.map_scales[0].mean < without.map_scales[0].mean


def test_a_standardisation_of_equal_values_stays_finite():
    scale = Standardisation()
    scale.fit(torch.full((5,), 3.0))
    assert scale(torch.tensor([3.0])).item() == 0 and torch.isfinite(scale(torch.tensor([4.0]))).all()


def test_the_head_sees_the_token_and_its_difference_and_learns_from_both():
    torch.manual_seed(0)
    head = ResidualHead(num_blocks=2, dim=6, settings=ResidualSettings(hidden=4)).eval()
    tokens, near = torch.randn(1, 5, 2, 6), torch.nn.functional.normalize(torch.randn(1, 5, 2, 6), dim=-1)
    logits = head(tokens, near)
    assert logits.shape == (1, 5) and logits.mean().item() == pytest.approx(ResidualSettings().initial_logit, abs=1.0)
    assert not torch.equal(logits, head(tokens, near.flip(1)))
    assert not torch.equal(logits, head(tokens + 0.5 * torch.randn_like(tokens), near))
    logits.sum().backward()
    weight = head.layers[2].weight
    assert isinstance(weight, torch.Tensor) and weight.grad is not None
    assert (weight.grad.abs().sum(dim=0) > 0).all()  # every input, of tokens and of differences


def test_reset_draws_new_weights_from_the_seed():
    head = ResidualHead(1, 4, ResidualSettings(hidden=3))
    torch.manual_seed(5)
    head.reset()
    first = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    torch.manual_seed(5)
    head.reset()
    assert all(torch.equal(first[name], tensor) for name, tensor in head.state_dict().items())


@torch.no_grad()
def test_tokens_of_blocks_are_those_of_the_whole_forward_normed(encoder: Encoder):
    images = images_of(encoder, 2)
    tokens = encoder.tokens_of(images, (0, 1))
    whole = encoder(images, blocks=(0, 1)).block_tokens
    for place, block in enumerate((0, 1)):
        expected = torch.nn.functional.layer_norm(whole[block], whole[block].shape[-1:])
        torch.testing.assert_close(tokens[:, :, place], expected, atol=1e-4, rtol=1e-4)


def test_smoothing_spreads_a_peak_by_1_2_1_and_keeps_a_constant():
    peak = torch.zeros(1, 5, 5)
    peak[0, 2, 2] = 16.0
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    torch.testing.assert_close(smoothed(peak)[0], expected)
    torch.testing.assert_close(smoothed(torch.full((2, 3, 4), 7.0)), torch.full((2, 3, 4), 7.0))


@torch.no_grad()
def test_relative_tokens_have_mean_zero_over_each_image(encoder: Encoder):
    images = images_of(encoder, 2)
    absolute, relative = encoder.tokens_of(images, (0, 1)), encoder.tokens_of(images, (0, 1), relative=True)
    torch.testing.assert_close(relative, absolute - absolute.mean(dim=1, keepdim=True))
    torch.testing.assert_close(relative.mean(dim=1), torch.zeros_like(relative[:, 0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("count", "more"), [(1, 1.0), (4, 0.25), (19, 1 / 19), (20, 0.0), (400, 0.0)])
def test_few_values_get_one_more_that_lies_one_away_from_their_mean(count: int, more: float):
    values = torch.randn(count, generator=torch.Generator().manual_seed(count))
    scale = Standardisation()
    scale.fit(values)
    assert float(scale.mean) == pytest.approx(float(values.mean()))
    assert float(scale.deviation) == pytest.approx((float(values.var(correction=0)) + more) ** 0.5, abs=1e-6)
