"""Score images at every test size, average the maps and derive the image scores (Fig. 3 of the paper, bottom).

This is the only implementation: the detector calls it with one image or a batch, and the exported graph
(:mod:`flawmap.deploy.graph`) traces the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.images.resize import resize_image
from flawmap.scorer import Scorer, upsample_map
from flawmap.vit.inputs import normalise

IMAGE_SCORES = ("vote_mean", "vote", "mean_logit", "map_max")
VOTES = ("vote_mean", "vote")


@dataclass(frozen=True)
class ScaleResult:
    """What the scorer computes for one image at one size.

    Attributes:
        size_px: side of the square that the image was resized to.
        logit: the scorer's image score; for the paper's head, the logit of p(anomalous). A float32 value.
        evidence: the anomaly map before it is resized to the image, float32 (r, c) on the patch grid.
    """

    size_px: int
    logit: float
    evidence: Float[np.ndarray, "r c"]


@dataclass(frozen=True)
class Analysis:
    """Everything that is computed for one image.

    Attributes:
        scales: one result per test size, smallest size first.
        anomaly_map: float32 (h, w) at the image's own resolution; higher = more anomalous.
        scores: the image scores by name, float64; higher = more anomalous.
    """

    scales: tuple[ScaleResult, ...]
    anomaly_map: Float[np.ndarray, "h w"]
    scores: dict[str, float]


@torch.no_grad()
def analyse(
    scorer: Scorer, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], sizes_px: Sequence[int]
) -> tuple[Analysis, ...]:
    """Score whole images at each size, in fp32; all images share the forward pass of a size.

    Args:
        scorer: in evaluation mode.
        images: of any sizes.
        sizes_px: sides of the squares, multiples of the patch size.
    """
    device = next(scorer.parameters()).device
    resized = [np.stack([resize_image(image, size, size) for image in images]) for size in sizes_px]
    with torch.autocast(device.type, enabled=False):
        logits, evidence = score_squares(scorer, [torch.from_numpy(squares).to(device) for squares in resized])
    logits_by_image, evidence = logits.T.tolist(), [maps.cpu() for maps in evidence]
    analyses = []
    for number, image in enumerate(images):
        maps = [of_size[number].numpy() for of_size in evidence]  # one (r, c) per size
        scales = [ScaleResult(*scale) for scale in zip(sizes_px, logits_by_image[number], maps, strict=True)]
        height, width = image.shape[:2]
        analyses.append(analysis_of(scales, height, width, score_names(scorer)))
    return tuple(analyses)


def analysis_of(scales: Sequence[ScaleResult], height: int, width: int, names: Sequence[str]) -> Analysis:
    """The analysis of an image of this height and width, from what the scorer gave at each size."""
    anomaly_map = mean_map(scales, height, width)
    scores = image_scores([scale.logit for scale in scales], float(anomaly_map.max()), names)
    return Analysis(tuple(scales), anomaly_map, scores)


def score_squares(
    scorer: Scorer, squares: Sequence[UInt8[Tensor, "b _ _ 3"]]
) -> tuple[Float[Tensor, "t b"], list[Float[Tensor, "b _ _"]]]:
    """Score resized images.

    Args:
        scorer: in evaluation mode.
        squares: one batch per test size (T of them), all of the same images.

    Returns:
        image scores (T, b) and the evidence on each size's patch grid, T maps (b, r, c).
    """
    outputs = [scorer.score(normalise(batch.permute(0, 3, 1, 2).contiguous())) for batch in squares]
    return torch.stack([output.image for output in outputs]), [output.evidence for output in outputs]


def average_maps(evidence: Sequence[Float[Tensor, "b _ _"]], height: Any, width: Any) -> Tensor:
    """The anomaly map: each size's evidence at the original resolution, averaged.

    Evidence is the logit of the paper's Y_hat up to the constant b. Unlike probabilities it keeps its order where an
    image is clearly normal or clearly anomalous.

    Args:
        evidence: T maps (b, r, c).
        height, width: of the images in pixels; see :func:`flawmap.scorer.upsample_map`.

    Returns:
        (b, height, width), float32.
    """
    total = upsample_map(evidence[0], height, width)  # (b, height, width)
    for maps in evidence[1:]:
        total += upsample_map(maps, height, width)
    return total / len(evidence)


def mean_map(scales: Sequence[ScaleResult], height: int, width: int) -> Float[np.ndarray, "h w"]:
    """The anomaly map from some sizes only, for example one."""
    return average_maps([torch.from_numpy(scale.evidence)[None] for scale in scales], height, width)[0].numpy()


def score_names(scorer: Scorer) -> tuple[str, ...]:
    """The image scores that mean something: a scorer that makes no decision has no votes to cast."""
    return IMAGE_SCORES if scorer.decides else tuple(name for name in IMAGE_SCORES if name not in VOTES)


def image_scores(logits: Sequence[Any], map_max: Any, names: Sequence[str] = IMAGE_SCORES) -> dict[str, Any]:
    """The image scores ``names``, in that order.

    ``vote``: share of sizes that call the image anomalous (p > 0.5); its majority is the paper's decision.
    ``vote_mean``: votes first, the mean logit within equal votes; breaks ties of an even number of sizes.
    ``mean_logit``: the mean logit. ``map_max``: the highest value of the averaged map.

    Args:
        logits: one per size: floats in the detector, tensors () in an exported graph.
        map_max: highest value of the anomaly map, of the same kind.
        names: among :data:`IMAGE_SCORES`.
    """
    vote = sum(logit > 0 for logit in logits) / len(logits)
    mean_logit = sum(logits) / len(logits)
    # a sigmoid in (0, 1) scaled below one vote keeps the order: votes decide first, the mean logit among equals
    vote_mean = vote + _sigmoid(mean_logit) / len(logits)
    scores = {"vote_mean": vote_mean, "vote": vote, "mean_logit": mean_logit, "map_max": map_max}
    return {name: scores[name] for name in names}


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) without overflow; two very negative logits, as of clearly normal images, stay apart."""
    if isinstance(x, Tensor):
        return x.sigmoid()
    with np.errstate(invalid="ignore"):  # NaN stays NaN without a warning; judge() refuses it
        return float(np.exp(-np.logaddexp(0.0, -x)))
