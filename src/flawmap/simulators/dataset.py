"""Good images with simulated defects: what stage 2 of the paper and the residual head are trained on.

It is built from good images alone and holds no labels or masks. Seed, epoch and index determine every item.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from flawmap.recipe.settings import NormalAugmentation
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.normal_augmentation import augment_normal
from flawmap.simulators.simulated_anomaly import Simulator
from flawmap.vit.inputs import NormalImageSource, channels_first

CROP_MARGIN = 1.15  # good images are kept this much larger than a training image, so that crops stay sharp


def crop_margin(augmentation: NormalAugmentation) -> float:
    """How much larger than a training image good images are kept, so that the smallest crop has as many pixels."""
    return max(CROP_MARGIN, augmentation.min_crop**-0.5)


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
    """

    def __init__(
        self,
        pixels: NormalImageSource,
        attention: Float[np.ndarray, "n r c"],
        size_px: int,
        augmentation: NormalAugmentation,
        simulator: Simulator,
        seed: int,
    ) -> None:
        self._pixels, self._attention, self._size_px = pixels, attention, size_px
        self._augmentation, self._seed = augmentation, seed
        self._simulate = simulator

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        """One good image with its simulated defect.

        Returns:
            ``normal`` and ``anomalous``: uint8 (3, s, s); ``footprint``: bool (s, s), True = defect; ``label``: 1, or
            0 where nothing changed; ``index``: of the image.
        """
        epoch, index = item
        generator = numpy_generator(self._seed, "simulation", epoch, index)
        normal, attention = self._augmented(index, generator)
        second = None
        if "second" in self._simulate.needs:
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
