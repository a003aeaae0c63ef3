"""SPADE (Cohen and Hoshen 2020): nearest neighbours, first of the whole image, then of each position in those."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.sample import NormalImage
from flawmap.recipe.settings import ModelSettings
from flawmap_bench.baselines.backbone import FrozenFeatures
from flawmap_bench.baselines.maps import as_map, resized_map, smoothed_map
from flawmap_bench.method import MethodSettings, ScoredImage

NEIGHBOURS = 50  # K
SMOOTHING_PX = 4.0


class Spade(FrozenFeatures):
    """Image score: mean distance to the K nearest good images. Map: distance to the nearest position among them.

    Args:
        settings: of the board.
        substitute: weights in place of the CNN's, for tests.
    """

    def __init__(self, settings: MethodSettings, substitute: ModelSettings | None = None) -> None:
        super().__init__(settings, substitute)
        self._vectors = torch.empty(0)  # (images, d)
        self._maps: list[Tensor] = []  # of each stage, (images, channels, rows, columns) in half precision

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Keep the features of all good images."""
        vectors: list[Tensor] = []
        maps: list[list[Tensor]] = []
        for batch in self.batches(images):
            stages, batch_vectors = self.backbone.stages(batch)
            vectors.append(batch_vectors)
            maps.append([stage.half() for stage in stages])
        self._vectors = torch.cat(vectors)
        self._maps = [torch.cat(stage) for stage in zip(*maps, strict=True)]

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        stages, vector = self.backbone.stages(self.as_batch(image))
        count = min(NEIGHBOURS, len(self._vectors))
        nearest, neighbours = torch.cdist(vector, self._vectors)[0].topk(count, largest=False)  # both (count,)
        size = (self.size_px, self.size_px)
        total = torch.zeros(size, device=vector.device)
        for stage, kept in zip(stages, self._maps, strict=True):
            gallery = kept[neighbours].float().transpose(0, 1).flatten(1).T  # (count r c, channels)
            distances = nearest_distances(stage[0].flatten(1).T, gallery)  # (r c,)
            grid = distances.unflatten(0, stage.shape[-2:])[None, None]
            total += F.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0] / len(stages)
        smooth = smoothed_map(as_map(total), SMOOTHING_PX)
        return ScoredImage(float(nearest.mean()), resized_map(smooth, *image.shape[:2]))

    def num_parameters(self) -> int:
        """The backbone's and the gallery's."""
        gallery = self._vectors.numel() + sum(stage.numel() for stage in self._maps)
        return super().num_parameters() + gallery


def nearest_distances(queries: Float[Tensor, "q c"], gallery: Float[Tensor, "g c"]) -> Float[Tensor, "q"]:
    """Euclidean distance of each query to the nearest of the gallery, in bounded memory."""
    return torch.cat([torch.cdist(part, gallery).min(dim=1).values for part in queries.split(256)])
