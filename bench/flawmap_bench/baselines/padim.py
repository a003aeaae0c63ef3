"""PaDiM (Defard, Setkov, Loesch and Audigier 2021): a Gaussian of frozen features at each position."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.recipe.settings import ModelSettings
from flawmap.reproducibility import numpy_generator
from flawmap_bench.baselines.backbone import concatenated, load_backbone
from flawmap_bench.baselines.gaussian import PositionGaussians
from flawmap_bench.baselines.map_resize import as_map, resized_map, smoothed_map
from flawmap_bench.baselines.training_loop import as_tensor
from flawmap_bench.method import MethodSettings, ScoredImage

ARCHITECTURE = "wide_resnet50_2.tv_in1k"
CHANNELS = 550  # drawn at random, of all three stages' (WR50-Rd550 of the publication)
SMOOTHING_PX = 4.0
BATCH = 8


class Padim:
    """Mahalanobis distance at each position, upsampled and smoothed; the image score is the highest value.

    Args:
        settings: of the board.
        substitute: weights in place of the CNN's, for tests.
    """

    def __init__(self, settings: MethodSettings, substitute: ModelSettings | None = None) -> None:
        self._settings = settings
        self._backbone = load_backbone(ARCHITECTURE, settings.compute.device, substitute)
        self._size_px = self._backbone.size_px(settings.image_size_px)
        self._gaussians = PositionGaussians()
        self._chosen = torch.empty(0)
        self.note = f"features: {self._backbone.name}"

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Means and covariances, in one pass."""
        pixels = NormalPixels(images, self._size_px)
        for start in range(0, len(pixels), BATCH):
            batch = [pixels[index] for index in range(start, min(start + BATCH, len(pixels)))]
            self._gaussians.add(self._features(as_tensor(batch, self._settings.compute.device)).flatten(2))
        self._gaussians.finish()

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        resized = resize_image(image, self._size_px, self._size_px)
        features = self._features(as_tensor([resized], self._settings.compute.device))[0]
        distances = as_map(self._gaussians.distances(features.flatten(1)).unflatten(0, features.shape[1:]))
        smooth = smoothed_map(resized_map(distances, self._size_px, self._size_px), SMOOTHING_PX)
        return ScoredImage(float(smooth.max()), resized_map(smooth, *image.shape[:2]))

    def num_parameters(self) -> int:
        """The backbone's, the means and the precisions."""
        own = self._gaussians.mean.numel() + self._gaussians.precision.numel()
        return own + sum(parameter.numel() for parameter in self._backbone.parameters())

    def _features(self, images: Tensor) -> Tensor:
        features = concatenated(self._backbone.stages(images)[0])
        if self._chosen.numel() == 0:
            count = min(CHANNELS, features.shape[1])
            drawn = numpy_generator(self._settings.seed, "padim").choice(features.shape[1], count, replace=False)
            self._chosen = torch.from_numpy(np.sort(drawn)).to(features.device)
        return features[:, self._chosen]
