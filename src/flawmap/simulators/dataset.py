"""Normal images with their simulated anomalies, as the paper's stage 2 and the residual head read them.

Built from normal images alone: it knows nothing of labels or masks. Every item is determined by (seed, epoch, index).
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from flawmap.recipe.settings import NormalAugmentation
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.by_name import Simulator
from flawmap.simulators.normal_augmentation import augment_normal
from flawmap.vit.inputs import NormalImageSource, channels_first

CROP_MARGIN = 1.15  # normal images are kept this much larger than a training image, so that crops stay sharp


def crop_margin(augmentation: NormalAugmentation) -> float:
    """How much larger images are kept: the smallest crop still has as many pixels as the training image."""
    return max(CROP_MARGIN, augmentation.min_crop**-0.5)


class SimulationDataset(Dataset):
    """Stage 2: a normal image, the same image with a simulated anomaly, the footprint and the label.

    Simulators that take patches from a second image get another normal image of the set, augmented on its own.

    Args:
        pixels: normal images, ``CROP_MARGIN`` larger than ``size_px``.
        attention: (n, r, c) A^[CLS] of each whole image by the frozen guide.
        size_px: side of the images given out.
        augmentation: applied to the normal image before the simulation.
        simulator: makes the anomalies.
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
