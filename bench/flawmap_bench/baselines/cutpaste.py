"""CutPaste, 3-way, with a Gaussian density (Li, Sohn, Yoon and Pfister 2021).

A ResNet-18 from scratch tells normal images, pasted rectangles and pasted scars apart; its features of good images then
get a Gaussian. The publication's map comes from a second model of 64 x 64 patches; here it comes from the last stage's
positions, with one Gaussian for all of them.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.color_jitter import color_jitter
from flawmap.simulators.cutpaste import CutPaste
from flawmap_bench.baselines.backbone import imagenet_normalised
from flawmap_bench.baselines.gaussian import SharedGaussian
from flawmap_bench.baselines.map_resize import as_map, resized_map, smoothed_map
from flawmap_bench.baselines.residual_networks import ResNet18, publication_note, width_factor, width_note
from flawmap_bench.baselines.training_loop import as_tensor, cosine_rate, drawn_images, train_until_spent
from flawmap_bench.method import Budget, MethodSettings, ScoredImage

PUBLISHED_IMAGES, PROCESSOR_IMAGES = 32, 8  # per step, three classes of each
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.03, 0.9, 3e-5
JITTER, MAX_SHIFT = 0.1, 0.05
STRIDE_PX = 32
MAX_POSITIONS = 20_000  # of good images, for the Gaussian of positions


class CutPasteDensity:
    """Image score: Mahalanobis distance of the pooled, normalised features.

    Args:
        settings: of the board.
        width: share of the publication's channels; None: by the device.
    """

    def __init__(self, settings: MethodSettings, width: float | None = None) -> None:
        self._settings, self._device = settings, settings.compute.device
        self._width = width or width_factor(self._device)
        self._images = PROCESSOR_IMAGES if self._device == "cpu" else PUBLISHED_IMAGES
        torch.manual_seed(settings.seed)
        self._encoder = ResNet18(self._width).to(self._device)
        layers = [
            nn.Linear(self._encoder.channels[-1], 512, bias=False),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Linear(512, 128),
            nn.ReLU(),
        ]
        self._head = nn.Sequential(*layers, nn.Linear(128, 3)).to(self._device)
        self._of_images: SharedGaussian | None = None
        self._of_positions: SharedGaussian | None = None
        self.note = ""

    def fit(self, images: Sequence[NormalImage]) -> None:
        """The pretext within the budget, then the densities."""
        budget = Budget(self._settings.budget_seconds, self._settings.max_steps)
        pixels = NormalPixels(images, self._settings.image_size_px)
        parameters = [*self._encoder.parameters(), *self._head.parameters()]
        optimizer = torch.optim.SGD(parameters, LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
        self._encoder.train()
        self._head.train()

        def loss_of_step(step: int) -> Tensor:
            views, classes = self._batch(pixels, step)
            pooled = self._encoder(imagenet_normalised(views))[-1].mean(dim=(2, 3))
            return F.cross_entropy(self._head(pooled), classes)

        steps = train_until_spent(budget, optimizer, loss_of_step, cosine_rate, self._settings.compute)
        self._encoder.eval()
        self._density(pixels)
        parts = (
            width_note(self._width),
            f"{steps} steps of {self._images} x 3 images{publication_note(self._images, PUBLISHED_IMAGES)}",
            "map: Gaussian of the last stage's positions",
        )
        self.note = "; ".join(part for part in parts if part)

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        assert self._of_images is not None and self._of_positions is not None  # fit was called
        size_px = self._settings.image_size_px
        pooled, positions, grid = self._features([resize_image(image, size_px, size_px)])
        found = as_map(self._of_positions.distances(positions).unflatten(0, grid))
        smooth = smoothed_map(resized_map(found, size_px, size_px), STRIDE_PX / 4)
        return ScoredImage(float(self._of_images.distances(pooled)[0]), resized_map(smooth, *image.shape[:2]))

    def num_parameters(self) -> int:
        """Of the encoder and of both Gaussians."""
        d = self._encoder.channels[-1]
        return sum(parameter.numel() for parameter in self._encoder.parameters()) + 2 * (d + d * d)

    @torch.no_grad()
    def _density(self, pixels: NormalPixels) -> None:
        vectors, positions = [], []
        for start in range(0, len(pixels), self._images):
            batch = [pixels[index] for index in range(start, min(start + self._images, len(pixels)))]
            pooled, of_grid, _ = self._features(batch)
            vectors.append(pooled)
            positions.append(of_grid)
        self._of_images = SharedGaussian(torch.cat(vectors))
        everywhere = torch.cat(positions)
        drawn = numpy_generator(self._settings.seed, "positions").permutation(len(everywhere))[:MAX_POSITIONS]
        self._of_positions = SharedGaussian(everywhere[torch.from_numpy(drawn).to(everywhere.device)])

    def _features(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """l2-normed pooled features (b, 512), those of all positions (b r c, 512), and (r, c)."""
        maps = self._encoder(imagenet_normalised(as_tensor(images, self._device)))[-1]
        positions = F.normalize(maps.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
        return F.normalize(maps.mean(dim=(2, 3)), dim=1), positions, (maps.shape[2], maps.shape[3])

    def _batch(self, pixels: NormalPixels, step: int) -> tuple[Tensor, Tensor]:
        """Jittered and shifted images in three versions each, with the class of each version."""
        generator = numpy_generator(self._settings.seed, "cutpaste", step)
        views: list[np.ndarray] = []
        for image in drawn_images(pixels, self._images, self._settings.seed, "cutpaste", step):
            jittered = color_jitter(shifted(image, generator), generator, *(JITTER,) * 4)
            views += [
                jittered,
                CutPaste("normal")(jittered, generator).image,
                CutPaste("scar")(jittered, generator).image,
            ]
        classes = torch.arange(3, device=self._device).repeat(self._images)
        return as_tensor(views, self._device), classes


def shifted(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Moved by up to 5 % of each side; the border repeats its outermost pixels."""
    height, width = image.shape[:2]
    rows, columns = round(MAX_SHIFT * height), round(MAX_SHIFT * width)
    top, left = int(generator.integers(2 * rows + 1)), int(generator.integers(2 * columns + 1))
    padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded[top : top + height, left : left + width])
