"""What every scorer is: an encoder with something on top that gives one number and one map per image."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.vit.encoder import Encoder


@dataclass(frozen=True)
class ScorerOutput:
    """What a scorer says of images at one size.

    Attributes:
        image: higher = more anomalous. The paper's head gives the logit of p(anomalous), so that 0 is its decision;
            the other scorers give standard deviations from what normal images score.
        evidence: the map on the patch grid, float32, before it is resized to the image; higher = more anomalous.
    """

    image: Float[Tensor, "b"]
    evidence: Float[Tensor, "b r c"]


class Scorer(nn.Module, ABC):
    """An encoder and what turns its tokens into an image score and a map.

    Args:
        encoder: of the images.
    """

    decides: ClassVar[bool] = False  # an image score above 0 is a decision, so that several sizes can vote

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def score(self, images: Float[Tensor, "b 3 h w"]) -> ScorerOutput:
        """Score normalised images whose sides are multiples of the patch size; each on its own."""


def upsample_map(evidence: Float[Tensor, "b r c"], height: int, width: int) -> Float[Tensor, "b h w"]:
    """Bilinear (align_corners=False) to image resolution."""
    resized = torch.nn.functional.interpolate(evidence[:, None], (height, width), mode="bilinear", align_corners=False)
    return resized[:, 0]
