"""CutPaste, 3-way, with a Gaussian density (Li, Sohn, Yoon and Pfister 2021).

A ResNet-18 from scratch learns to distinguish normal images, pasted rectangles and pasted scars; a Gaussian is then
fitted to its features of good images. The publication's map comes from a second model of 64 x 64 patches; here it
comes from the positions of the last stage, with one Gaussian for all of them.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.color_jitter import color_jitter
from flawmap_bench.baselines.backbone import imagenet_normalised
from flawmap_bench.baselines.from_scratch import (
    TrainedFromScratch,
    as_tensor,
    cosine_rate,
    publication_note,
    width_note,
)
from flawmap_bench.baselines.gaussian import SharedGaussian
from flawmap_bench.baselines.maps import as_map, resized_map, smoothed_map
from flawmap_bench.baselines.residual_networks import ResNet18
from flawmap_bench.method import ScoredImage
from flawmap_bench.simulators.cutpaste import CutPaste

PUBLISHED_IMAGES, PROCESSOR_IMAGES = 32, 8  # per step, in three versions each
MOMENTUM, WEIGHT_DECAY = 0.9, 3e-5
JITTER, MAX_SHIFT = 0.1, 0.05
STRIDE_PX = 32
MAX_POSITIONS = 20_000  # of good images, for the Gaussian of positions


class CutPasteDensity(TrainedFromScratch):
    """Image score: Mahalanobis distance of the pooled, normalised features."""

    key = "cutpaste"
    learning_rate = 0.03

    def build(self) -> None:
        """Encoder and head; the densities follow after training."""
        self._images = PROCESSOR_IMAGES if self.device == "cpu" else PUBLISHED_IMAGES
        self._encoder = ResNet18(self.width).to(self.device)
        self._head = nn.Sequential(
            nn.Linear(self._encoder.channels[-1], 512, bias=False),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Linear(512, 128),
            nn.ReLU(),
            nn.Linear(128, 3),
        ).to(self.device)
        self.networks.extend([self._encoder, self._head])
        self._image_density: SharedGaussian | None = None
        self._position_density: SharedGaussian | None = None

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(self.networks.parameters(), self.learning_rate, MOMENTUM, weight_decay=WEIGHT_DECAY)

    def rate_at(self, share: float) -> float:
        """Cosine."""
        return cosine_rate(share)

    def loss_of_step(self, pixels: NormalPixels, step: int) -> Float[Tensor, ""]:
        """Cross-entropy of the version of jittered and shifted images."""
        generator = self.generator(step)
        views: list[np.ndarray] = []
        for image in self.drawn_images(pixels, self._images, step):
            jittered = color_jitter(shifted(image, generator), generator, JITTER, JITTER, JITTER, JITTER)
            rectangle, scar = (CutPaste(kind)(jittered, generator).image for kind in ("normal", "scar"))
            views += [jittered, rectangle, scar]
        versions = torch.arange(3, device=self.device).repeat(self._images)  # (3 b,)
        maps = self._encoder(imagenet_normalised(as_tensor(views, self.device)))[-1]  # (3 b, 512, r, c)
        return F.cross_entropy(self._head(maps.mean(dim=(2, 3))), versions)

    @torch.no_grad()
    def after_training(self, pixels: NormalPixels) -> None:
        """Fit the densities."""
        vectors, positions = [], []
        for start in range(0, len(pixels), self._images):
            batch = [pixels[index] for index in range(start, min(start + self._images, len(pixels)))]
            batch_vectors, batch_positions, _ = self._features(batch)
            vectors.append(batch_vectors)
            positions.append(batch_positions)
        self._image_density = SharedGaussian(torch.cat(vectors))
        all_positions = torch.cat(positions)
        drawn = numpy_generator(self.settings.seed, "positions").permutation(len(all_positions))[:MAX_POSITIONS]
        self._position_density = SharedGaussian(all_positions[torch.from_numpy(drawn).to(all_positions.device)])

    def remarks(self, steps: int) -> Sequence[str]:
        """Width, steps, and where the map comes from."""
        published = publication_note(self._images, PUBLISHED_IMAGES)
        return (
            width_note(self.width),
            f"{steps} steps of {self._images} x 3 images{published}",
            "map: Gaussian of the last stage's positions",
        )

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        assert self._image_density is not None and self._position_density is not None  # fit was called
        size_px = self.settings.image_size_px
        pooled, positions, grid = self._features([resize_image(image, size_px, size_px)])
        distances = as_map(self._position_density.distances(positions).unflatten(0, grid))  # (r, c)
        smooth = smoothed_map(resized_map(distances, size_px, size_px), STRIDE_PX / 4)
        return ScoredImage(float(self._image_density.distances(pooled)[0]), resized_map(smooth, *image.shape[:2]))

    def num_parameters(self) -> int:
        """Of the encoder and of both Gaussians."""
        d = self._encoder.channels[-1]
        return sum(parameter.numel() for parameter in self._encoder.parameters()) + 2 * (d + d * d)

    def _features(
        self, images: Sequence[np.ndarray]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "positions d"], tuple[int, int]]:
        """l2-normed pooled features, those of all positions (b r c, d), and (r, c)."""
        maps = self._encoder(imagenet_normalised(as_tensor(images, self.device)))[-1]  # (b, d, r, c)
        positions = F.normalize(maps.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
        return F.normalize(maps.mean(dim=(2, 3)), dim=1), positions, (maps.shape[2], maps.shape[3])


def shifted(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Moved by up to 5 % of each side; border pixels are repeated."""
    height, width = image.shape[:2]
    rows, columns = round(MAX_SHIFT * height), round(MAX_SHIFT * width)
    top, left = int(generator.integers(2 * rows + 1)), int(generator.integers(2 * columns + 1))
    padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded[top : top + height, left : left + width])
