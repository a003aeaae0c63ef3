"""What normal images of like appearance score: nearest neighbours by hand, and what a scorer does with it."""

import numpy as np
import pytest
import torch

from flawmap.memory.expectation import NormalExpectation
from flawmap.memory.scorer import TOKEN_SCORERS, build_scorer
from flawmap.recipe.settings import ExpectationSettings, MemorySettings, Recipe
from flawmap.vit.encoder import Encoder
from flawmap.vit.weights import build_vit

SETTINGS = ExpectationSettings()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_mean_over_the_images_that_look_most_alike():
    appearances = torch.randn(200, 8, generator=generator())
    tops, means = torch.rand(200, 2, generator=generator(1)), torch.rand(200, 2, generator=generator(2))
    expectation = NormalExpectation(SETTINGS, 0, 8, 2)
    expectation.remember(appearances, tops, means)
    query = torch.randn(3, 8, generator=generator(3))
    found_tops, found_means = expectation(7.0 * query)  # length does not matter
    for row, one in enumerate(query):
        similarity, order = torch.cosine_similarity(one[None], appearances).sort(descending=True)
        cut = similarity[14]  # 14 = 7 % of 200 count, and the next one does not
        weights = [min(1.0, float((value - cut) / (0.1 * (similarity[0] - cut)))) for value in similarity[:14]]
        assert weights[0] == 1 and weights[-1] < 1
        for found, remembered in ((found_tops, tops), (found_means, means)):
            expected = sum(w * remembered[i] for w, i in zip(weights, order[:14], strict=True)) / sum(weights)
            torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


def test_two_images_that_change_places_at_the_cut_do_not_move_what_is_expected():
    """As between runtimes, whose similarities differ in the last digit; a hard cut would jump by 8 / 14."""
    angles = torch.linspace(0.0, 1.0, 200)
    tops = torch.ones(200, 1)
    tops[13], tops[14] = 0.0, 8.0
    found = []
    for shift in (-1e-6, 1e-6):
        angles[14] = angles[13] + shift
        expectation = NormalExpectation(SETTINGS, 0, 2, 1)
        expectation.remember(torch.stack([angles.cos(), angles.sin()], dim=1), tops, tops)
        found.append(expectation(torch.tensor([[1.0, 0.0]]))[0].item())
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_images_that_are_equally_alike_all_count():
    expectation = NormalExpectation(SETTINGS, 0, 2, 1)
    expectation.remember(torch.ones(200, 2), torch.full((200, 1), 3.0), torch.full((200, 1), 2.0))
    tops, means = expectation(torch.tensor([[1.0, 1.0]]))
    assert (tops.item(), means.item()) == pytest.approx((3.0, 2.0))


def test_two_kinds_of_parts_are_each_compared_with_their_own():
    kinds = torch.eye(4)[:2].repeat_interleave(25, dim=0) + 0.01 * torch.randn(50, 4, generator=generator())
    tops = torch.tensor([[1.0]] * 25 + [[9.0]] * 25)
    expectation = NormalExpectation(SETTINGS, 50, 4, 1)
    expectation.remember(kinds, tops, tops)
    assert expectation(torch.eye(4)[:2])[0].flatten().tolist() == pytest.approx([1, 9])


def test_with_fewer_images_than_neighbours_all_of_them_count():
    expectation = NormalExpectation(SETTINGS, 3, 4, 1)
    expectation.remember(torch.eye(4)[:3], torch.tensor([[1.0], [2.0], [6.0]]), torch.zeros(3, 1))
    assert expectation(torch.eye(4)[3:])[0].item() == pytest.approx(3)


def test_with_no_images_nothing_is_expected():
    tops, means = NormalExpectation(SETTINGS, 0, 4, 2)(torch.ones(5, 4))
    assert tops.shape == means.shape == (5, 2) and not tops.any() and not means.any()


# ---- in a scorer


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(build_vit("test_vit", 0.0)).eval()


def images_of(encoder: Encoder, count: int, seed: int) -> torch.Tensor:
    side = 4 * encoder.patch_size_px
    return torch.randn(count, 3, side, side, generator=generator(seed))


@pytest.mark.parametrize("name", list(TOKEN_SCORERS))
@torch.no_grad()
def test_scores_are_taken_relative_to_what_like_images_show_without_themselves(name: str, encoder: Encoder):
    torch.manual_seed(1)
    recipe = Recipe(method=name, memory=MemorySettings(blocks=(1, 2), tokens=48, image_share=0.25))
    scorer = build_scorer(encoder, recipe).eval()
    train, new = images_of(encoder, 3, seed=2), images_of(encoder, 2, seed=3)
    unit = torch.nn.functional.normalize(encoder.tokens_of(train, (0, 1)), dim=-1)
    scorer.memory.tokens = unit.flatten(0, 1).transpose(0, 1).clone()  # all tokens of all three images
    scorer.memory.normalise()
    scorer.memory.sources.copy_(torch.arange(3).repeat_interleave(16).expand(2, -1))
    before = scorer.score(new)
    appearances, of_train = scorer.taken.of_images(scorer.frozen, train)
    nearest = [scorer.memory.nearest(of_train[i : i + 1], torch.tensor([i])) for i in range(3)]
    scorer.fit_expectation(appearances, torch.arange(3), zip(of_train.split(1), nearest, strict=True))
    scales = [(float(scale.mean), float(scale.deviation)) for scale in scorer.image_scales]
    for scale in scorer.image_scales:  # that nothing but the expectation has changed
        scale.mean.zero_(), scale.deviation.fill_(1.0)
    after = scorer.score(new)
    tops, means = torch.zeros(3, len(scorer.map_weights)), torch.zeros(3, len(scorer.map_weights))
    for i in range(3):
        tokens = encoder.tokens_of(train[i : i + 1], (0, 1))
        for kind, one in enumerate(scorer.evidence_per_patch(tokens, scorer.memory.nearest(tokens, torch.tensor([i])))):
            tops[i, kind] = one[0].sort(descending=True).values[:4].mean()
            means[i, kind] = one.mean()
    torch.testing.assert_close(scorer.expectation.tops, tops, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scorer.expectation.means, means, atol=1e-4, rtol=1e-4)
    others = torch.stack([tops[[j for j in range(3) if j != i]].mean(dim=0) for i in range(3)])
    # an image itself is not among its like; because they are few, there is one more that lies one away from the mean
    beyond = (tops - others).unbind(dim=1)
    expected = [(float(one.mean()), float((one.var(correction=0) + 1 / 3).sqrt())) for one in beyond]
    assert np.allclose(scales, expected, atol=1e-4)
    # three images are fewer than ten: all new ones lose the same, each kind with its weight
    image_loss = (torch.tensor(scorer.image_weights) * tops.mean(dim=0)).sum()
    map_loss = (torch.tensor(scorer.map_weights) * means.mean(dim=0)).sum()
    torch.testing.assert_close(before.image - after.image, image_loss.expand(2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(before.evidence - after.evidence, map_loss.expand(2, 4, 4), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_cls_and_tokens_of_one_pass_are_those_of_two(encoder: Encoder):
    images = images_of(encoder, 2, seed=4)
    for relative in (False, True):
        cls, tokens = encoder.cls_and_tokens_of(images, (0, 1), relative)
        torch.testing.assert_close(cls, encoder(images).cls)
        torch.testing.assert_close(tokens, encoder.tokens_of(images, (0, 1), relative), atol=1e-4, rtol=1e-4)


def test_an_image_that_does_not_count_leaves_the_others_their_weights():
    expectation = NormalExpectation(SETTINGS, 0, 4, 1)
    cls = torch.randn(40, 4, generator=generator(5))
    tops = torch.arange(40.0)[:, None]
    expectation.remember(cls, tops, tops)
    kept = [i for i in range(40) if i != 7]
    without = NormalExpectation(SETTINGS, 0, 4, 1)
    without.remember(cls[kept], tops[kept], tops[kept])
    expected, _ = without(cls[7:8])
    found, _ = expectation(cls[7:8], exclude=(torch.arange(40) == 7)[None])
    torch.testing.assert_close(found, expected)
    itself, _ = expectation(cls[7:8])
    assert not torch.allclose(itself, expected)
