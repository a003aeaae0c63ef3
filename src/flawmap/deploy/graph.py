"""One module from resized squares to the verdict: what every exported format is made of.

The graph begins behind the image resize, because Pillow's bilinear filter rounds to 8 bits after each of its two
passes, which no graph operator repeats; a runtime resizes with Pillow, as training did, and everything else is inside:
normalisation, all test sizes, the scorer, the average of the maps at the original resolution, the image scores, the
calibrated thresholds.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from flawmap.detect.model_facts import ModelFacts
from flawmap.scorer import Scorer
from flawmap.vit.encoder import Encoder
from flawmap.vit.inputs import normalise


class EveryScale(nn.Module):
    """Normalises the squares and scores each: a logit per scale, and each scale's map on its patch grid.

    Args:
        scorer: in eval mode, on the processor; it is copied, and the copy's positions are stored at ``sizes_px``.
        sizes_px: sides of the squares, multiples of the patch.
    """

    def __init__(self, scorer: Scorer, sizes_px: Sequence[int]) -> None:
        super().__init__()
        self.scorer = with_stored_positions(scorer, sizes_px)

    def forward(self, *squares: UInt8[Tensor, "1 _ _ 3"]) -> tuple[Tensor, ...]:
        """Logits (T,) float32, then T maps (1, r, c) float32."""
        logits, maps = [], []
        for square in squares:
            output = self.scorer.score(normalise(square.permute(0, 3, 1, 2)))
            logits.append(output.image.float())
            maps.append(output.evidence.float())
        return torch.cat(logits), *maps


def with_stored_positions(scorer: Scorer, sizes_px: Sequence[int]) -> Scorer:
    """A copy whose encoders need no bicubic resize at these sizes; it shares all parameters with the original."""
    shared = {id(tensor): tensor for tensor in (*scorer.parameters(), *scorer.buffers())}
    copied = copy.deepcopy(scorer, shared)
    for module in copied.modules():
        if isinstance(module, Encoder):
            for size in sizes_px:
                grid = module.grid(size, size)
                module.stored_positions[grid] = module.patch_positions(grid)[1].detach().clone()
    return copied


class DetectionGraph(nn.Module):
    """Squares and the original size in; score, verdict, map at the original size and all image scores out.

    Args:
        scales: an :class:`EveryScale`, possibly traced.
        facts: thresholds, and which image score decides.
    """

    def __init__(self, scales: nn.Module, facts: ModelFacts) -> None:
        super().__init__()
        self.scales = scales
        self.image_score, self.score_names = facts.image_score, facts.score_names
        calibration = facts.calibration
        nothing_is_above = float("inf")
        self.threshold = calibration.threshold if calibration else nothing_is_above

    def forward(self, squares: list[UInt8[Tensor, "1 _ _ 3"]], size_px: Int[Tensor, "2"]) -> tuple[Tensor, ...]:
        """Returns score (), is_anomalous () bool, anomaly_map (height, width), scores (k,) as the facts name them."""
        logits, *maps = self.scales(*squares)
        height, width = self._sides(size_px)
        total = _at_size(maps[0], height, width)
        for evidence in maps[1:]:
            total = total + _at_size(evidence, height, width)
        anomaly_map = total / len(maps)
        scores = _image_scores(logits, anomaly_map, len(maps))
        score, given = scores[self.image_score], torch.stack([scores[name] for name in self.score_names])
        return score, score > self.threshold, anomaly_map, given

    @staticmethod
    def _sides(size_px: Tensor) -> tuple[Any, Any]:
        """Height and width as numbers that stay free in the graph: torch.jit wants tensors, torch.export integers."""
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return size_px[0], size_px[1]
        height, width = size_px[0].item(), size_px[1].item()  # int() would fix them
        torch._check(height >= 1)
        torch._check(width >= 1)
        return height, width


def _at_size(evidence: Float[Tensor, "1 r c"], height: Any, width: Any) -> Tensor:
    """A map (height, width); shapes that are free in the graph cannot be checked."""
    resized = F.interpolate(evidence[:, None], (height, width), mode="bilinear", align_corners=False)
    return resized[0, 0]


def _image_scores(logits: Float[Tensor, "t"], anomaly_map: Tensor, num_scales: int) -> dict[str, Tensor]:
    """As ``flawmap.detect.scoring.image_scores``."""
    vote, mean_logit = (logits > 0).float().mean(), logits.mean()
    vote_mean = vote + torch.sigmoid(mean_logit) / num_scales
    return {"vote_mean": vote_mean, "vote": vote, "mean_logit": mean_logit, "map_max": anomaly_map.max()}
