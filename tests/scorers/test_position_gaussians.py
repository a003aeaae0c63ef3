"""Distances for a position: against numpy's, without an image of its own, and as a kind of evidence."""

import numpy as np
import pytest
import torch

from flawmap.models.encoder import Encoder
from flawmap.models.weights import build_vit
from flawmap.scorers.position_gaussians import PositionGaussians
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
    share, ridge = 4 / (4 + int(gaussians.num_images)), PositionGaussians.RIDGE * np.eye(train.shape[-1])
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
    assert len(set(gaussians.channels.tolist())) == 4 and int(gaussians.num_images) == 30
    known = values(gaussians, train)
    expected = by_hand(gaussians, known, values(gaussians, new), mean_covariance(known))
    torch.testing.assert_close(gaussians(new).double(), torch.from_numpy(expected), atol=1e-3, rtol=1e-3)


def test_an_image_of_the_fit_is_judged_by_the_others():
    train = tokens_of(40)
    gaussians = fitted(train)
    known = values(gaussians, train)
    pooled = mean_covariance(known)  # what one image does to it is left out
    others = [by_hand(gaussians, np.delete(known, i, axis=0), known[i : i + 1], pooled)[0] for i in range(40)]
    left_out = gaussians(train, fitted=True).double()
    # the covariance of n - 1 images is divided by n - 2, which the rule takes as n - 1: a fortieth of the squares
    torch.testing.assert_close(left_out, torch.from_numpy(np.stack(others)), atol=0.0, rtol=0.02)
    assert (left_out > gaussians(train).double()).all()


def test_what_is_normal_elsewhere_is_far_here():
    train = tokens_of(40)
    gaussians, new = fitted(train, channels=8), tokens_of(10, seed=3)
    moved = new.roll(1, dims=1)
    assert (gaussians(moved).mean(dim=1) > gaussians(new).mean(dim=1)).all()


@pytest.mark.parametrize("images", [2, 3, 5])
def test_few_images_give_finite_distances(images: int):
    train = tokens_of(images)
    gaussians = fitted(train)
    for fitted_images in (False, True):
        assert torch.isfinite(gaussians(train, fitted_images)).all()


@torch.no_grad()
def test_the_fused_image_score_is_the_mean_of_memory_and_positions_and_the_map_stays():
    torch.manual_seed(0)
    encoder = Encoder(build_vit("test_vit", 0.0)).eval()
    images = torch.randn(9, 3, 4 * encoder.patch_size_px, 4 * encoder.patch_size_px)
    plain = FusedScorer(encoder, TokenScorerShape((0, 1), 12, 8, 0.25)).eval()
    plain.memory.tokens.copy_(torch.nn.functional.normalize(torch.randn(plain.memory.tokens.shape), dim=-1))
    both = FusedScorer(encoder, TokenScorerShape((0, 1), 12, 8, 0.25, positions=16, position_channels=5)).eval()
    both.memory.load_state_dict(plain.memory.state_dict())
    both.head.load_state_dict(plain.head.state_dict())
    assert both.positions is not None
    tokens = encoder.tokens_of(images, (0, 1))
    both.positions.fit(tokens[:6], torch.Generator().manual_seed(1))
    for scorer in (plain, both):
        scorer.fit_scales([(image, None) for image in images[:6].split(1)])
    new = images[6:]
    of_plain, of_both = plain.score(new), both.score(new)
    tops = both.top_mean(both.positions(tokens))
    for_place = (tops - tops[:6].mean()) / tops[:6].std(correction=0)
    torch.testing.assert_close(of_both.image, (of_plain.image + for_place[6:]) / 2, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(of_both.evidence, of_plain.evidence, atol=1e-5, rtol=1e-5)
