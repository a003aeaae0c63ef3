"""The interface of all scorers: an encoder, and what turns its tokens into one number and one map per image."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flawmap.recipe.settings import Recipe
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches


@dataclass(frozen=True)
class ScorerOutput:
    """What a scorer computes for a batch of images at one size.

    Attributes:
        image: higher = more anomalous. The paper's head gives the logit of p(anomalous), so that 0 is its decision;
            the other scorers give standard deviations from what normal images score. float32.
        evidence: the anomaly map on the patch grid, float32, before it is resized to the image.
        appearance_distances: how unlike any good image of each product each image looks, in [0, 2], float32; one column
            where products have no names. None where the scorer remembers no good image.
    """

    image: Float[Tensor, "b"]
    evidence: Float[Tensor, "b r c"]
    appearance_distances: Float[Tensor, "b p"] | None = None


class Scorer(nn.Module, ABC):
    """An encoder and what turns its tokens into an image score and a map.

    Attributes:
        encoder: turns images into tokens.
        decides: whether an image score above 0 is a decision, so that several sizes can vote.
    """

    decides: ClassVar[bool] = False

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def encoder_backend(self) -> str | None:
        """What computes the encoder where this scorer lies; None where it is not frozen."""
        return None

    @property
    def knows_appearances(self) -> bool:
        """Whether it says how unlike any good image an image looks."""
        return False

    @property
    def products(self) -> tuple[str, ...]:
        """Names of the products that it tells apart by their appearance, sorted."""
        return ()

    @abstractmethod
    def score(self, images: Float[Tensor, "b 3 h w"], inside: Bool[Tensor, "b n"] | None = None) -> ScorerOutput:
        """Score normalised images whose sides are multiples of the patch size, each independently of the others.

        Several threads may call it at once, so it must not change the scorer.

        Args:
            images: normalised.
            inside: the patches in the region of interest, at least one of each image; the others enter neither score
                nor map. None: all count. Methods on tokens alone know regions.
        """

    def bytes_per_image(self, size_px: int) -> int:
        """Memory that scoring takes for each image of a batch, roughly; ``size_px`` is the side of its square."""
        return self.encoder.bytes_per_image(size_px)

    def sizes_px(self, recipe: Recipe) -> tuple[int, ...]:
        """Sides of the squares that an image is scored at: multiples of the patch size, each once, ascending.

        Several sizes put their decisions to the vote; a scorer without a decision uses the size of its training.
        """
        sizes = recipe.detect.sizes_px if self.decides else (recipe.data.image_size_px,)
        return tuple(sorted({round_to_patches(size, self.encoder.patch_size_px) for size in sizes}))


@dataclass(frozen=True)
class ScaleResult:
    """What the scorer computes for one image at one size, or for all tiles of the image.

    Attributes:
        size_px: side of the square that the image was resized to, or of a tile.
        logit: the scorer's image score; for the paper's head, the logit of p(anomalous). A float32 value.
        evidence: the anomaly map before it is resized to the image, float32 (r, c) on the patch grid.
        map_share: of this map in the average.
        appearance_distances: see :class:`ScorerOutput`; None also for tiles.
    """

    size_px: int
    logit: float
    evidence: Float[np.ndarray, "r c"]
    map_share: float = 1.0
    appearance_distances: tuple[float, ...] | None = None


@dataclass(frozen=True)
class UnseenScores:
    """What good images score, each by a fit that has not seen it; the threshold is set from it.

    Attributes:
        images: their numbers among all good images, ascending.
        image_scores: one per image.
        map_peaks: the highest value of each anomaly map, at the image's own resolution.
        maps: (rows, columns), the evidence in each on a grid of patches, see :class:`ScorerOutput`.
        scales: what each got, of which score and map are the mean.
        folds: the fold of each; images of one fold are scored by the same fit.
        attention: (r, c), A^[CLS] of each on the patch grid.
        scorer_without: the scorer as it would be without the images of a fold.
    """

    images: list[int]
    image_scores: list[float]
    map_peaks: list[float]
    maps: list[Float[np.ndarray, "rows columns"]]
    scales: list[tuple[ScaleResult, ...]]
    folds: list[int]
    attention: list[Float[np.ndarray, "r c"]]
    scorer_without: Callable[[int], Scorer]


@dataclass(frozen=True)
class UnseenDefects:
    """Known defects, and scorers that have not seen them.

    Attributes:
        folds: the fold of each.
        scorer_without: the scorer as it would be without the known defects of a fold.
    """

    folds: list[int]
    scorer_without: Callable[[int], Scorer]


@dataclass(frozen=True)
class FittedScorer:
    """What a method gives.

    Attributes:
        scorer: in evaluation mode.
        stage_keys: hashes under which the results of its stages, and of those before, are shared.
        unseen: what good images score that a fit has not seen; None for a method that leaves the scoring to detection,
            and where no threshold is wanted.
        unseen_defects: None where there are no known defects.
    """

    scorer: Scorer
    stage_keys: dict[str, str]
    unseen: UnseenScores | None
    unseen_defects: UnseenDefects | None = None


def upsample_map(evidence: Float[Tensor, "b r c"], height: Any, width: Any) -> Tensor:
    """Bilinear (align_corners=False) to image resolution.

    Args:
        evidence: on the patch grid.
        height, width: of the image; integers, or whatever stands for them while a graph is exported.

    Returns:
        (b, height, width).
    """
    resized = torch.nn.functional.interpolate(evidence[:, None], (height, width), mode="bilinear", align_corners=False)
    return resized[:, 0]


def average_maps(
    evidence: Sequence[Float[Tensor, "b _ _"]], height: Any, width: Any, shares: Sequence[float] | None = None
) -> Tensor:
    """The anomaly map: each map of evidence at the original resolution, averaged.

    Evidence is the logit of the paper's Y_hat up to the constant b. Unlike probabilities it keeps its order where an
    image is clearly normal or clearly anomalous.

    Args:
        evidence: T maps (b, r, c), each on a grid of its own.
        height, width: of the images in pixels; see :func:`upsample_map`.
        shares: of each map in the average; None: equal ones.

    Returns:
        (b, height, width), float32.
    """
    shares = [1.0] * len(evidence) if shares is None else shares
    total = shares[0] * upsample_map(evidence[0], height, width)  # (b, height, width)
    for share, maps in zip(shares[1:], evidence[1:], strict=True):
        total += share * upsample_map(maps, height, width)
    return total / sum(shares)
