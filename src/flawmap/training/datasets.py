"""What the two stages read: views of normal images, and normal images with their simulated anomalies.

Both are built from normal images alone and know nothing of labels or masks. Every item is determined by
(seed, epoch, index).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from flawmap.augment.normal_images import augment_normal
from flawmap.augment.simulators import simulator_by_name
from flawmap.augment.views import make_views
from flawmap.data.resize import resize_image
from flawmap.models.weights import IMAGENET_MEAN, IMAGENET_STD
from flawmap.recipe import NormalAugmentation, SimulationSettings
from flawmap.reproducibility import numpy_generator

CROP_MARGIN = 1.15  # normal images are kept this much larger than a training image, so that crops stay sharp


def crop_margin(augmentation: NormalAugmentation) -> float:
    """How much larger images are kept: the smallest crop still has as many pixels as the training image."""
    return max(CROP_MARGIN, augmentation.min_crop**-0.5)


@runtime_checkable
class NormalImageSource(Protocol):
    """Normal images by index, uint8 (h, w, 3): :class:`flawmap.data.normal_pixels.NormalPixels`, for example."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class ViewSizes:
    """Sides of the global and local views, multiples of the patch size, and how many local views."""

    global_px: int
    local_px: int
    num_locals: int


class ViewsDataset(Dataset):
    """Stage 1: ``teacher`` and ``student_global`` (3, g, g) and ``student_locals`` (V - 1, 3, l, l), uint8."""

    def __init__(self, pixels: NormalImageSource, sizes: ViewSizes, seed: int) -> None:
        self._pixels, self._sizes, self._seed = pixels, sizes, seed

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = item
        generator = numpy_generator(self._seed, "views", epoch, index)
        sizes = self._sizes
        views = make_views(self._pixels[index], sizes.global_px, sizes.local_px, sizes.num_locals, generator)
        no_locals = torch.zeros(0, 3, sizes.local_px, sizes.local_px, dtype=torch.uint8)
        return {
            "teacher": channels_first(views.teacher),
            "student_global": channels_first(views.student_global),
            "student_locals": torch.stack([channels_first(v) for v in views.student_locals])
            if views.student_locals
            else no_locals,
        }


class SimulationDataset(Dataset):
    """Stage 2: a normal image, the same image with a simulated anomaly, the footprint and the label.

    Simulators that take patches from a second image get another normal image of the set, augmented on its own.

    Args:
        pixels: normal images, ``CROP_MARGIN`` larger than ``size_px``.
        attention: (n, r, c) A^[CLS] of each whole image by the frozen guide.
        size_px: side of the images given out.
        augmentation: applied to the normal image before the simulation.
        simulation: how anomalies are made.
        seed: of the run.
    """

    def __init__(
        self,
        pixels: NormalImageSource,
        attention: Float[np.ndarray, "n r c"],
        size_px: int,
        augmentation: NormalAugmentation,
        simulation: SimulationSettings,
        seed: int,
    ) -> None:
        self._pixels, self._attention, self._size_px = pixels, attention, size_px
        self._augmentation, self._seed = augmentation, seed
        self._simulate = simulator_by_name(simulation.simulator, simulation)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = item
        generator = numpy_generator(self._seed, "simulation", epoch, index)
        normal, attention = self._augmented(index, generator)
        second = None
        if self._simulate.needs_second:
            other = (index + int(generator.integers(1, max(2, len(self))))) % len(self)
            second, _ = self._augmented(other, generator)
        anomaly = self._simulate(normal, generator, attention, second)
        return {
            "normal": channels_first(normal),
            "anomalous": channels_first(anomaly.image),
            "footprint": torch.from_numpy(anomaly.footprint),
            "label": torch.tensor(anomaly.label),
            "index": torch.tensor(index),
        }

    def _augmented(self, index: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An image and its attention, warped alike."""
        return augment_normal(self._pixels[index], self._attention[index], self._size_px, self._augmentation, generator)


def normal_batches(
    pixels: NormalImageSource, size_px: int, batch_size: int, device: str
) -> Iterator[tuple[range, Float[Tensor, "b 3 s s"]]]:
    """All images in their order, resized to squares and normalised; with each batch the images' numbers."""
    for start in range(0, len(pixels), batch_size):
        chosen = range(start, min(start + batch_size, len(pixels)))
        images = torch.stack([channels_first(resize_image(pixels[i], size_px, size_px)) for i in chosen])
        yield chosen, normalise(images.to(device))


def channels_first(image: np.ndarray) -> Tensor:
    """uint8 (h, w, 3) -> uint8 (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalise(images: Tensor) -> Float[Tensor, "*b 3 h w"]:
    """uint8 (..., 3, h, w) -> float32 with the mean and deviation that the encoder was trained with."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std
