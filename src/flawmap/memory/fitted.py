"""A fitted scorer, and what good images score that its fit has not seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flawmap.data.roi import RegionOfInterest
from flawmap.engine.stage import StageContext
from flawmap.memory.folds import Folds
from flawmap.memory.good_images import GoodImages
from flawmap.memory.scorer import Evidence, TokenScorer
from flawmap.recipe.settings import Recipe
from flawmap.scorer import ScaleResult, UnseenScores, upsample_map


@dataclass(frozen=True)
class Fit:
    """A fitted scorer of whole images or of tiles, and the evidence from which scales and thresholds are set.

    Attributes:
        scorer: in evaluation mode, on the device.
        good: what it was fitted to.
        evidence: in reference images: by a fit that has not seen them, or, without folds, by the tokens of the others.
        evidence_of: rows among the references that ``evidence`` belongs to.
        folds: None where no threshold is wanted.
        fold_of_image: see ``folds``.
        context: with the keys of the stages.
        without_known: the scorer as it would be if its head had not seen the known defects of a fold; None where there
            are none, or where the head decides nothing.
        rois: the region of interest of each image, by its number; None: all counts.
    """

    scorer: TokenScorer
    good: GoodImages
    evidence: Sequence[Evidence]
    evidence_of: Sequence[int]
    folds: Folds | None
    fold_of_image: Int[Tensor, "i"] | None
    context: StageContext
    without_known: Callable[[int], TokenScorer] | None = None
    rois: Sequence[RegionOfInterest] | None = None

    def without(self, fold: int, recipe: Recipe) -> TokenScorer:
        """The scorer as it would be without the images of a fold."""
        assert self.folds is not None
        return self.folds.without(self.scorer, self.good, fold, recipe.memory.spacing_neighbours).eval()


@torch.no_grad()
def unseen_scores(fitted: Fit, recipe: Recipe) -> UnseenScores | None:
    """Image scores and map peaks of the reference images from their evidence, as detection gives them."""
    good, folds = fitted.good, fitted.folds
    if folds is None:
        return None
    images, peaks = good.references.tolist(), []
    scores, maps = outputs_of(fitted)
    distances = [evidence.appearance_distances for evidence in fitted.evidence]
    for number, on_grid in zip(images, maps, strict=True):
        roi = None if fitted.rois is None else fitted.rois[number]
        height, width = good.originals_px[number].tolist()
        peaks.append(peak_of(upsample_map(torch.from_numpy(on_grid)[None], height, width)[0].numpy(), roi))
    attention = [*good.attention[good.references].float().numpy()]
    folds_of = folds.of_reference.tolist()
    size_px = fitted.context.size_px
    scales = [
        (ScaleResult(size_px, score, on_grid, 1.0, None if distance is None else tuple(distance[0].tolist())),)
        for score, on_grid, distance in zip(scores, maps, distances, strict=True)
    ]
    without = partial(fitted.without, recipe=recipe)
    return UnseenScores(images, scores, peaks, maps, scales, folds_of, attention, without)


@torch.no_grad()
def outputs_of(fitted: Fit) -> tuple[list[float], list[Float[np.ndarray, "r c"]]]:
    """Image score and map on the patch grid from all the evidence of a fit."""
    grid = fitted.good.attention.shape[1], fitted.good.attention.shape[2]
    outputs = [fitted.scorer.output(evidence, grid) for evidence in fitted.evidence]
    return [float(output.image[0]) for output in outputs], [output.evidence[0].cpu().numpy() for output in outputs]


def peak_of(anomaly_map: Float[np.ndarray, "h w"], roi: RegionOfInterest | None) -> float:
    """The highest value of a map in the region of interest."""
    return float((anomaly_map if roi is None else anomaly_map[roi.at(*anomaly_map.shape)]).max())
