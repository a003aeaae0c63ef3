"""SPADE (Cohen and Hoshen 2020): nearest neighbours, first of the whole image, then of each position in those."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.recipe.settings import ModelSettings
from flawmap_bench.baselines.backbone import load_backbone
from flawmap_bench.baselines.map_resize import as_map, resized_map, smoothed_map
from flawmap_bench.baselines.training_loop import as_tensor
from flawmap_bench.method import MethodSettings, ScoredImage

ARCHITECTURE = "wide_resnet50_2.tv_in1k"
NEIGHBOURS = 50  # K
SMOOTHING_PX = 4.0
BATCH = 8


class Spade:
    """Image score: mean distance to the K nearest good images. Map: distance to the nearest position among them.

    Args:
        settings: of the board.
        substitute: weights in place of the CNN's, for tests.
    """

    def __init__(self, settings: MethodSettings, substitute: ModelSettings | None = None) -> None:
        self._device = settings.compute.device
        self._backbone = load_backbone(ARCHITECTURE, self._device, substitute)
        self._size_px = self._backbone.size_px(settings.image_size_px)
        self._vectors = torch.empty(0)
        self._maps: list[Tensor] = []  # of each stage, (images, channels, rows, columns) in half precision
        self.note = f"features: {self._backbone.name}"

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Keep the features of all good images."""
        pixels = NormalPixels(images, self._size_px)
        vectors: list[Tensor] = []
        maps: list[list[Tensor]] = []
        for start in range(0, len(pixels), BATCH):
            batch = [pixels[index] for index in range(start, min(start + BATCH, len(pixels)))]
            of_stages, of_images = self._backbone.stages(as_tensor(batch, self._device))
            vectors.append(of_images)
            maps.append([stage.half() for stage in of_stages])
        self._vectors = torch.cat(vectors)
        self._maps = [torch.cat(stage) for stage in zip(*maps, strict=True)]

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        resized = resize_image(image, self._size_px, self._size_px)
        stages, vector = self._backbone.stages(as_tensor([resized], self._device))
        count = min(NEIGHBOURS, len(self._vectors))
        nearest, which = torch.cdist(vector, self._vectors)[0].topk(count, largest=False)
        total = torch.zeros(self._size_px, self._size_px, device=self._device)
        for stage, kept in zip(stages, self._maps, strict=True):
            distances = nearest_distances(stage[0].flatten(1).T, kept[which].float().transpose(0, 1).flatten(1).T)
            grid = distances.unflatten(0, stage.shape[-2:])[None, None]
            size = (self._size_px, self._size_px)
            total += F.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0] / len(stages)
        smooth = smoothed_map(as_map(total), SMOOTHING_PX)
        return ScoredImage(float(nearest.mean()), resized_map(smooth, *image.shape[:2]))

    def num_parameters(self) -> int:
        """The backbone's and the gallery's."""
        gallery = self._vectors.numel() + sum(stage.numel() for stage in self._maps)
        return gallery + sum(parameter.numel() for parameter in self._backbone.parameters())


def nearest_distances(queries: Tensor, gallery: Tensor) -> Tensor:
    """Euclidean distance of each query (q, c) to the nearest of the gallery (g, c), in bounded memory."""
    return torch.cat([torch.cdist(part, gallery).min(dim=1).values for part in queries.split(256)])
