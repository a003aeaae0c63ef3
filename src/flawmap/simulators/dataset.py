"""Good images with simulated defects: what stage 2 of the paper and the residual head are trained on.

It is built from good images alone and holds no labels or masks. Seed, epoch and index determine every item.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import Dataset

from flawmap.data.roi import OUTSIDE_COLOUR
from flawmap.recipe.settings import NormalAugmentation
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.normal_augmentation import augment_normal
from flawmap.simulators.simulated_anomaly import Simulator, anomaly_inside
from flawmap.vit.inputs import NormalImageSource, channels_first

CROP_MARGIN = 1.15  # good images are kept this much larger than a training image, so that crops stay sharp


def crop_margin(augmentation: NormalAugmentation) -> float:
    """How much larger than a training image good images are kept, so that the smallest crop has as many pixels."""
    return max(CROP_MARGIN, augmentation.min_crop**-0.5)


def everywhere(index: int) -> None:
    """The region of interest of an image of which everything counts. It is no lambda: spawned processes pickle it."""


class SimulationDataset(Dataset):
    """Augmented good images, each with a simulated defect; an item is found by (epoch, index).

    A simulator that needs a second image gets another one of the same set, with an augmentation of its own.

    Args:
        pixels: good images, :func:`crop_margin` times as large as ``size_px``.
        attention: A^[CLS] of each whole image, by the frozen guide.
        size_px: side s of the images given out.
        augmentation: applied to the good image before the simulation.
        simulator: makes the defects.
        seed: of the run.
        inside: gives the pixels of an image, by its index, in the region of interest; None for all. Defects lie inside.
    """

    def __init__(
        self,
        pixels: NormalImageSource,
        attention: Float[np.ndarray, "n r c"],
        size_px: int,
        augmentation: NormalAugmentation,
        simulator: Simulator,
        seed: int,
        inside: Callable[[int], Bool[np.ndarray, "h w"] | None] = everywhere,
    ) -> None:
        self._pixels, self._attention, self._size_px = pixels, attention, size_px
        self._augmentation, self._seed = augmentation, seed
        self._simulate, self._inside = simulator, inside

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        """One good image with its simulated defect.

        Returns:
            ``normal`` and ``anomalous``: uint8 (3, s, s); ``footprint``: bool (s, s), True = defect; ``label``: 1, or
            0 where nothing changed; ``index``: of the image; with a region of interest, ``inside``: bool (s, s).
        """
        epoch, index = item
        generator = numpy_generator(self._seed, "simulation", epoch, index)
        normal, attention, inside = self._augmented(index, generator)
        second = None
        if "second" in self._simulate.needs:
            other = (index + int(generator.integers(1, max(2, len(self))))) % len(self)
            second, _, _ = self._augmented(other, generator)
        anomaly = self._simulate(normal, generator, attention, second)
        if inside is not None:
            anomaly = anomaly_inside(normal, anomaly.image, anomaly.footprint & inside)
        of_region = {} if inside is None else {"inside": torch.from_numpy(inside)}
        return of_region | {
            "normal": channels_first(normal),
            "anomalous": channels_first(anomaly.image),
            "footprint": torch.from_numpy(anomaly.footprint),
            "label": torch.tensor(anomaly.label),
            "index": torch.tensor(index),
        }

    def _augmented(
        self, index: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """An image, its attention and its region of interest, warped alike."""
        settings, inside = self._augmentation, self._inside(index)
        pixels, attention = self._pixels[index], self._attention[index]
        image, attention = augment_normal(pixels, attention, self._size_px, settings, generator, inside)
        if inside is None:
            return image, attention, None
        inside = attention > 0
        return np.where(inside[..., None], image, np.array(OUTSIDE_COLOUR, np.uint8)), attention, inside
