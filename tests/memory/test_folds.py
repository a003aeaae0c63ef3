"""Folds of the good images: what shares one, and that each image is scored as if it had never been seen."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.open_data import load_images
from flawmap.engine.compute import choose_compute
from flawmap.engine.stage import StageContext
from flawmap.memory import fit as memory_fit
from flawmap.memory.folds import deal, near_identical
from flawmap.memory.good_images import GoodImages, encode_good_images
from flawmap.recipe.settings import Recipe
from flawmap.runs.run_folder import create_run
from flawmap.simulators.by_name import simulator_by_name
from flawmap.vit.encoder import Encoder
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.inputs import normalise
from flawmap.vit.weights import build_vit
from images import write_good
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

SMALL = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=memory"),
    *("memory.blocks=[1, 2]", "memory.tokens=60", "memory.image_share=0.1"),
)


def made_up(num_images: int, seed: int = 0, patches: int = 6, dim: int = 32) -> GoodImages:
    """Random tokens and [CLS] tokens; images 2n and 2n + 1 look alike."""
    generator = torch.Generator().manual_seed(seed)
    looks = torch.randn((num_images + 1) // 2, dim, generator=generator).repeat_interleave(2, dim=0)[:num_images]
    tokens = torch.randn(num_images, patches, 2, dim, generator=generator)
    sources = torch.arange(num_images, dtype=torch.int32).repeat_interleave(patches)
    cls = looks + 0.01 * torch.randn(num_images, dim, generator=generator)
    sizes = torch.full((num_images, 2), 64, dtype=torch.int32)
    attention = torch.ones(num_images, 2, 3)
    images = torch.arange(num_images, dtype=torch.int32)
    return GoodImages(attention, torch.arange(num_images), cls, tokens, tokens.flatten(0, 1), sources, images, sizes)


# ---- which images share a fold


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(st.integers(0, 12), min_size=3, max_size=40), count=st.integers(2, 8), seed=st.integers(0, 99))
def test_a_group_is_in_one_fold_and_folds_are_even(groups: list[int], count: int, seed: int):
    good = made_up(len(groups))
    identities = [("group", str(group)) for group in groups]
    folds = deal(good, identities, count, seed).tolist()
    sizes = [groups.count(group) for group in set(groups)]
    for group in set(groups):
        assert len({fold for fold, other in zip(folds, groups, strict=True) if other == group}) == 1
    in_fold = [folds.count(fold) for fold in range(max(folds) + 1)]
    if len(sizes) > 1:
        assert len(in_fold) == min(count, len(sizes)) and min(in_fold) > 0
        assert max(in_fold) - min(in_fold) <= max(sizes)
    order = np.random.default_rng(seed).permutation(len(groups))
    again = deal(made_up(len(groups)), [identities[number] for number in order], count, seed).tolist()
    assert [again[place] for place in np.argsort(order)] == folds


def test_the_seed_decides_which_images_share_a_fold():
    good, identities = made_up(30), [("image", f"{number}.png") for number in range(30)]
    one, same, other = (deal(good, identities, 5, seed).tolist() for seed in (0, 0, 1))
    assert one == same != other
    assert sorted(one.count(fold) for fold in range(5)) == [6] * 5


def test_nearly_identical_images_share_a_fold():
    good = made_up(12)
    good.reference_tokens[5] = good.reference_tokens[4] + 0.05 * torch.randn_like(good.reference_tokens[4])
    assert near_identical(good) == [(4, 5), (5, 4)]
    for seed in range(8):
        folds = deal(good, [("image", str(number)) for number in range(12)], 6, seed).tolist()
        assert folds[4] == folds[5] and sorted(folds.count(fold) for fold in range(6)) == [2] * 6


def test_where_everything_is_one_group_images_are_dealt_one_by_one():
    good = made_up(4)
    one_group = [("group", "a")] * 4
    assert len(set(deal(good, one_group, 5, 0).tolist())) == 1
    for number in range(1, 4):
        good.reference_tokens[number] = good.reference_tokens[0]
    good.reference_appearances[:] = good.reference_appearances[0]
    assert sorted(deal(good, [("image", str(n)) for n in range(4)], 5, 0).tolist()) == [0, 1, 2, 3]


# ---- a fit without a fold


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """What the recommended method makes of twenty images, and its parts."""
    torch.manual_seed(0)
    encoder = Encoder(build_vit("test_vit", 0.0)).eval()
    images = load_images(write_good(tmp_path_factory.mktemp("folds"), 20)).images
    recipe: Recipe = tiny_recipe(*SMALL)
    run = create_run(tmp_path_factory.mktemp("run") / "run", "test", recipe)
    context = StageContext(run, choose_compute("cpu", "fp32"), seed=0, size_px=64, inputs={})
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    scores = memory_fit.fit(images, encoder, recipe, context, simulate)
    good = encode_good_images(FrozenEncoder(encoder), NormalPixels(images, 64), recipe, context)
    return scores, good, recipe, images


def test_a_memory_without_a_fold_holds_as_many_tokens_and_none_of_its_images(fitted):
    scores, good, _, _ = fitted
    of_image = torch.tensor(scores.unseen.folds)
    for fold in range(5):
        without = scores.unseen.scorer_without(fold)
        assert without.memory.tokens.shape == scores.scorer.memory.tokens.shape
        assert (of_image[without.memory.sources.long()] != fold).all()
        assert len(without.expectation.appearances) == 16 and len(scores.scorer.expectation.appearances) == 20
        kept = F.normalize(good.reference_appearances[of_image != fold], dim=-1)
        torch.testing.assert_close(without.expectation.appearances, kept)
        assert without.memory.spacing.std() > 0 and torch.equal(without.memory.mean, scores.scorer.memory.mean)


def test_scores_and_peaks_are_those_of_a_scorer_that_has_not_seen_the_image(fitted):
    scores, _, _, images = fitted
    pixels = NormalPixels(images, 64)
    assert scores.unseen.images == list(range(20))
    for number, fold in enumerate(scores.unseen.folds):
        scorer = scores.unseen.scorer_without(fold)
        square = torch.from_numpy(pixels[number].copy()).permute(2, 0, 1)[None]
        with torch.no_grad():
            output = scorer.score(normalise(square))
        assert scores.unseen.image_scores[number] == pytest.approx(float(output.image[0]), abs=0.02)  # float16 tokens
        np.testing.assert_allclose(scores.unseen.maps[number], output.evidence[0], atol=0.05)
        height, width = pixels.originals_px[number]
        upsampled = F.interpolate(output.evidence[:, None], (int(height), int(width)), mode="bilinear")
        assert scores.unseen.map_peaks[number] == pytest.approx(float(upsampled.max()), abs=0.05)


def test_the_scorer_with_all_images_is_not_changed_by_those_without(fitted):
    scores, *_ = fitted
    before = {name: tensor.clone() for name, tensor in scores.scorer.state_dict().items()}
    scores.unseen.scorer_without(2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in scores.scorer.state_dict().items())


def test_without_folds_there_are_no_scores(tmp_path):
    encoder = Encoder(build_vit("test_vit", 0.0)).eval()
    images = load_images(write_good(tmp_path / "good", 6)).images
    recipe = tiny_recipe(*SMALL, "calibration.folds=0")
    context = StageContext(
        create_run(tmp_path / "run", "test", recipe), choose_compute("cpu", "fp32"), seed=0, size_px=64, inputs={}
    )
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    assert memory_fit.fit(images, encoder, recipe, context, simulate).unseen is None
