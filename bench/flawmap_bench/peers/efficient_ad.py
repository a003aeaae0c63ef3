"""anomalib's EfficientAD-S with random weights, for what scoring takes.

Its training needs ImageNet images and a teacher that are downloaded; neither changes the number of operations.
"""

from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import UInt8

from flawmap.advice import install
from flawmap.data.images.resize import resize_image
from flawmap.errors import UserError
from flawmap.vit.inputs import channels_first

SIZE_PX = 256  # of the publication
TEACHER_CHANNELS = 384


class UntrainedEfficientAd:
    """Gives the model a whole image, and the map back at that image's size.

    Raises:
        UserError: anomalib is not installed.
    """

    note = f"random weights, {SIZE_PX} px: the time only"

    def __init__(self) -> None:
        if find_spec("anomalib") is None:
            remedy = install("peers", "flawmap-bench")
            raise UserError("EfficientAD-S needs anomalib, which is not installed", "--peers", remedy)
        from anomalib.models.image.efficient_ad.torch_model import (  # pyright: ignore[reportMissingImports]
            EfficientAdModel,
            EfficientAdModelSize,
        )

        self._model = EfficientAdModel(TEACHER_CHANNELS, EfficientAdModelSize.S).eval()

    @torch.no_grad()
    def score(self, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """Resize and score one image."""
        square = channels_first(resize_image(pixels, SIZE_PX, SIZE_PX))[None].float() / 255
        answer = self._model(square)
        torch.nn.functional.interpolate(answer.anomaly_map, pixels.shape[:2], mode="bilinear")
