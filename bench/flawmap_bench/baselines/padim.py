"""PaDiM (Defard, Setkov, Loesch and Audigier 2021): a Gaussian of frozen features at each position."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.sample import NormalImage
from flawmap.recipe.settings import ModelSettings
from flawmap.reproducibility import numpy_generator
from flawmap_bench.baselines.backbone import FrozenFeatures, concatenated
from flawmap_bench.baselines.gaussian import PositionGaussians
from flawmap_bench.baselines.maps import as_map, resized_map, smoothed_map
from flawmap_bench.method import MethodSettings, ScoredImage

CHANNELS = 550  # drawn at random from all three stages' (WR50-Rd550 of the publication)
SMOOTHING_PX = 4.0


class Padim(FrozenFeatures):
    """Mahalanobis distance at each position, upsampled and smoothed; the image score is the highest value.

    Args:
        settings: of the board.
        substitute: weights in place of the CNN's, for tests.

    Attributes:
        gaussians: of all positions.
        channels: indices of those that were drawn; empty until the first image.
    """

    def __init__(self, settings: MethodSettings, substitute: ModelSettings | None = None) -> None:
        super().__init__(settings, substitute)
        self.gaussians = PositionGaussians()
        self.channels = torch.empty(0)

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Means and covariances, in one pass."""
        for batch in self.batches(images):
            self.gaussians.add(self._features(batch).flatten(2))
        self.gaussians.finish()

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        features = self._features(self.as_batch(image))[0]  # (c, r, r)
        distances = as_map(self.gaussians.distances(features.flatten(1)).unflatten(0, features.shape[1:]))
        smooth = smoothed_map(resized_map(distances, self.size_px, self.size_px), SMOOTHING_PX)
        return ScoredImage(float(smooth.max()), resized_map(smooth, *image.shape[:2]))

    def num_parameters(self) -> int:
        """The backbone's, the means and the precisions."""
        return super().num_parameters() + self.gaussians.mean.numel() + self.gaussians.precision.numel()

    def _features(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b c r r"]:
        features = concatenated(self.backbone.stages(images)[0])
        if self.channels.numel() == 0:
            count = min(CHANNELS, features.shape[1])
            drawn = numpy_generator(self.settings.seed, "padim").choice(features.shape[1], count, replace=False)
            self.channels = torch.from_numpy(np.sort(drawn)).to(features.device)
        return features[:, self.channels]
