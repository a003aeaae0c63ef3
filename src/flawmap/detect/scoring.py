"""Multi-scale evaluation: one image at T sizes, maps averaged, decisions put to the vote (Fig. 3, bottom)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.images.resize import resize_image
from flawmap.scorer import Scorer, upsample_map
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.positions import round_to_patches

IMAGE_SCORES = ("vote_mean", "vote", "mean_logit", "map_max")
VOTES = ("vote_mean", "vote")


@dataclass(frozen=True)
class ScaleResult:
    """What the scorer says of an image at one size.

    Attributes:
        size_px: side of the square that the image was resized to.
        logit: the scorer's image score; of the paper's head, the logit of p(anomalous), float64.
        evidence: E of the map, float32 (r, c) on the patch grid.
    """

    size_px: int
    logit: float
    evidence: Float[np.ndarray, "r c"]


def test_sizes(sizes_px: Sequence[int], patch_size_px: int) -> tuple[int, ...]:
    """The recipe's sizes as the nearest multiples of the patch, each once, ascending."""
    return tuple(sorted({round_to_patches(size, patch_size_px) for size in sizes_px}))


@torch.no_grad()
def score_at_scales(
    scorer: Scorer, image: UInt8[np.ndarray, "h w 3"], sizes_px: Sequence[int]
) -> tuple[ScaleResult, ...]:
    """Score one whole image at each size, in fp32.

    Images go through one at a time, so that an image's score cannot depend on its neighbours in a batch, not even
    by rounding. On two cores this costs nothing; on a GPU the scales of several images could share a batch.
    """
    device = next(scorer.parameters()).device
    results = []
    for size in sizes_px:
        square = channels_first(resize_image(image, size, size))[None].to(device)
        with torch.autocast(device.type, enabled=False):
            output = scorer.score(normalise(square))
        results.append(ScaleResult(size, float(output.image[0]), output.evidence[0].cpu().numpy()))
    return tuple(results)


def mean_map(scales: Sequence[ScaleResult], height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Y_hat_test: the scales' maps at the original resolution, averaged.

    The average is of evidence, which is the logit of Y_hat up to the constant b: unlike probabilities it keeps its
    order where an image is clearly normal or clearly anomalous.
    """
    total: Tensor = torch.zeros(height, width)
    for scale in scales:
        total += upsample_map(torch.from_numpy(scale.evidence)[None], height, width)[0]
    return (total / len(scales)).numpy()


def score_names(scorer: Scorer) -> tuple[str, ...]:
    """Which image scores mean something: a scorer that decides nothing by itself has no votes to cast."""
    return IMAGE_SCORES if scorer.decides else tuple(name for name in IMAGE_SCORES if name not in VOTES)


def image_scores(
    scales: Sequence[ScaleResult], anomaly_map: Float[np.ndarray, "h w"], names: Sequence[str] = IMAGE_SCORES
) -> dict[str, float]:
    """The image scores ``names``, in that order.

    ``vote``: share of scales that call the image anomalous (p > 0.5); its majority is the paper's decision.
    ``vote_mean``: votes first, the mean logit within equal votes; breaks ties of an even number of scales.
    ``mean_logit``: the mean logit. ``map_max``: the highest value of the averaged map.
    """
    logits = np.array([scale.logit for scale in scales], np.float64)
    votes = float((logits > 0).mean())
    mean_logit = float(logits.mean())
    # sigmoid in (0, 1) scaled below one vote keeps the order: votes decide first, the mean logit among equals
    scores = {
        "vote_mean": votes + _sigmoid(mean_logit) / len(logits),
        "vote": votes,
        "mean_logit": mean_logit,
        "map_max": float(anomaly_map.max()),
    }
    return {name: scores[name] for name in names}


def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow; two very negative logits, as of clearly normal images, stay apart."""
    return float(np.exp(-np.logaddexp(0.0, -x)))
