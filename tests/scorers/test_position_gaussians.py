"""Distances for a position: against numpy's, without an image of its own, and as a kind of evidence."""

import numpy as np
import pytest
import torch

from flawmap.models.encoder import Encoder
from flawmap.models.weights import build_vit
from flawmap.scorers.position_gaussians import PositionGaussians, num_channels
from flawmap.scorers.token_scorers import FusedScorer, TokenScorerShape


def tokens_of(images: int, seed: int = 0, positions: int = 3, blocks: int = 2, dim: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    place = torch.randn(1, positions, blocks, dim, generator=torch.Generator().manual_seed(99))
    return place + 0.5 * torch.randn(images, positions, blocks, dim, generator=generator)


def fitted(tokens: torch.Tensor, channels: int = 4) -> PositionGaussians:
    gaussians = PositionGaussians(tokens.shape[1], channels)
    gaussians.fit(tokens, torch.Generator().manual_seed(0))
    return gaussians


def values(gaussians: PositionGaussians, tokens: torch.Tensor) -> np.ndarray:
    """(n, p, d) in float64, by hand."""
    array = tokens.double().numpy()
    unit = array / np.linalg.norm(array, axis=-1, keepdims=True) * array.shape[-1] ** 0.5
    return unit.reshape(*unit.shape[:2], -1)[..., gaussians.channels.numpy()]


def by_hand(gaussians: PositionGaussians, train: np.ndarray, new: np.ndarray, pooled: np.ndarray) -> np.ndarray:
    """Mahalanobis distances (m, p) to mean and shrunk covariance of ``train``."""
    share, ridge = gaussians.share_of_all, PositionGaussians.RIDGE * np.eye(train.shape[-1])
    distances = np.zeros(new.shape[:2])
    for place in range(train.shape[1]):
        covariance = (1 - share) * np.cov(train[:, place].T) + share * pooled + ridge
        away = new[:, place] - train[:, place].mean(axis=0)
        distances[:, place] = np.sqrt(np.einsum("mi,ij,mj->m", away, np.linalg.inv(covariance), away))
    return distances


def mean_covariance(train: np.ndarray) -> np.ndarray:
    return np.mean([np.cov(train[:, place].T) for place in range(train.shape[1])], axis=0)


def test_distances_are_numpys():
    train, new = tokens_of(30), tokens_of(5, seed=1)
    gaussians = fitted(train)
    assert len(set(gaussians.channels.tolist())) == 4 and gaussians.share_of_all == 4 / 34
    known = values(gaussians, train)
    expected = by_hand(gaussians, known, values(gaussians, new), mean_covariance(known))
    torch.testing.assert_close(gaussians(new).double(), torch.from_numpy(expected), atol=1e-3, rtol=1e-3)


def without_each(gaussians: PositionGaussians, train: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Distances (n, p) of new[i] by all training images but the i-th, from their sums, nothing inverted by a rule."""
    share, ridge = gaussians.share_of_all, PositionGaussians.RIDGE * np.eye(train.shape[-1])
    pooled, count = mean_covariance(train), len(train)  # what one image does to the pooled one is left out
    distances = np.zeros(new.shape[:2])
    for i in range(count):
        others = np.delete(train, i, axis=0)
        for place in range(train.shape[1]):
            centred = others[:, place] - others[:, place].mean(axis=0)
            covariance = (1 - share) * centred.T @ centred / (count - 1) + share * pooled + ridge
            away = new[i, place] - others[:, place].mean(axis=0)
            distances[i, place] = np.sqrt(away @ np.linalg.inv(covariance) @ away)
    return distances


@pytest.mark.parametrize(("images", "channels"), [(2, 4), (3, 8), (12, 12), (40, 4)])
def test_an_image_of_the_fit_is_judged_by_the_others(images: int, channels: int):
    train = tokens_of(images)
    gaussians = fitted(train, channels)
    known = values(gaussians, train)
    expected = torch.from_numpy(without_each(gaussians, known, known))
    torch.testing.assert_close(gaussians(train, own=train).double(), expected, atol=0.0, rtol=5e-3)
    assert (expected > gaussians(train).double()).all()


@pytest.mark.parametrize(("images", "channels"), [(2, 4), (3, 8), (12, 12), (40, 4)])
def test_so_is_what_was_made_from_one_of_them(images: int, channels: int):
    train = tokens_of(images)
    changed = train + tokens_of(images, seed=8)
    gaussians = fitted(train, channels)
    expected = without_each(gaussians, values(gaussians, train), values(gaussians, changed))
    found = gaussians(changed, own=train).double()
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=0.0, rtol=5e-3)


def test_large_images_have_more_positions_and_fewer_channels():
    assert num_channels(256, 4 * 384) == 100
    assert num_channels(256, 60) == 60
    of_many = num_channels(21_316, 4 * 384)
    assert 21_316 * of_many**2 <= 16_000_000 < 21_316 * (of_many + 1) ** 2


def test_what_is_normal_elsewhere_is_far_here():
    train = tokens_of(40)
    gaussians, new = fitted(train, channels=8), tokens_of(10, seed=3)
    moved = new.roll(1, dims=1)
    assert (gaussians(moved).mean(dim=1) > gaussians(new).mean(dim=1)).all()


@pytest.mark.parametrize("images", [2, 3, 5])
def test_few_images_give_finite_distances(images: int):
    train = tokens_of(images)
    gaussians = fitted(train)
    for own in (None, train):
        assert torch.isfinite(gaussians(train, own)).all()


@torch.no_grad()
def test_the_fused_image_score_is_the_mean_of_memory_and_positions_and_the_map_stays():
    torch.manual_seed(0)
    encoder = Encoder(build_vit("test_vit", 0.0)).eval()
    images = torch.randn(9, 3, 4 * encoder.patch_size_px, 4 * encoder.patch_size_px)
    plain = FusedScorer(encoder, TokenScorerShape((0, 1), 12, 8, 0.25)).eval()
    plain.memory.tokens.copy_(torch.nn.functional.normalize(torch.randn(plain.memory.tokens.shape), dim=-1))
    both = FusedScorer(encoder, TokenScorerShape((0, 1), 12, 8, 0.25, num_positions=16, position_channels=5)).eval()
    both.memory.load_state_dict(plain.memory.state_dict())
    both.head.load_state_dict(plain.head.state_dict())
    assert both.position_gaussians is not None
    tokens = encoder.tokens_of(images, (0, 1))
    both.position_gaussians.fit(tokens[:6], torch.Generator().manual_seed(1))
    cls = encoder(images[:6]).cls
    for scorer in (plain, both):
        scorer.fit_expectation(cls, [(one, torch.tensor([50 + i])) for i, one in enumerate(tokens[:6].split(1))])
        scorer.fit_map_scales([(image, None) for image in images[:6].split(1)])
    new = images[6:]
    of_plain, of_both = plain.score(new), both.score(new)
    own = both.top_mean(both.position_gaussians(tokens[:6], own=tokens[:6]))  # six are fewer than ten: all are alike
    beyond = own - (own.sum() - own) / 5
    for_place = both.top_mean(both.position_gaussians(tokens[6:])) - own.mean()
    standardised = (for_place - beyond.mean()) / beyond.std(correction=0)
    torch.testing.assert_close(of_both.image, (of_plain.image + standardised) / 2, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(of_both.evidence, of_plain.evidence, atol=1e-5, rtol=1e-5)
