"""NSA, FPI and PII: a network learns to map the soft labels of simulated anomalies, pixel by pixel.

The image score is the mean of the map, as in all three publications.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.recipe.files import load_recipe
from flawmap.simulators.simulated_anomaly import Simulator
from flawmap_bench.baselines.backbone import imagenet_normalised
from flawmap_bench.baselines.from_scratch import (
    TrainedFromScratch,
    as_tensor,
    cosine_rate,
    publication_note,
    width_note,
)
from flawmap_bench.baselines.maps import as_map, resized_map
from flawmap_bench.baselines.residual_networks import ResNetEncoderDecoder, WideEncoderDecoder, standardised
from flawmap_bench.method import ScoredImage
from flawmap_bench.simulators.fpi import ForeignPatchInterpolation
from flawmap_bench.simulators.nsa import NaturalSyntheticAnomalies, nsa_parameters
from flawmap_bench.simulators.pii import PoissonImageInterpolation

PROCESSOR_BATCH = 8  # images per step; with the published number a processor would make a few dozen steps in minutes
NSA_CROP_MARGIN = 230 / 224  # of the publication's random crops; its rotations by 3 to 5 degrees are left out


class SimulatedSegmentation(TrainedFromScratch):
    """Binary cross-entropy with the soft labels.

    Attributes:
        published_batch: images per step in the publication.
    """

    learning_rate = 1e-3
    published_batch: ClassVar[int]

    def build(self) -> None:
        """Network and simulator."""
        self.networks.append(self.new_network().to(self.device))
        self._simulator = self.new_simulator()
        self._batch_size = PROCESSOR_BATCH if self.device == "cpu" else self.published_batch

    @abstractmethod
    def new_network(self) -> nn.Module:
        """It gives one logit per pixel."""

    @abstractmethod
    def new_simulator(self) -> Simulator:
        """It makes image and soft label."""

    @abstractmethod
    def prepared(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
        """Images in [0, 1] as the network takes them."""

    def loss_of_step(self, pixels: NormalPixels, step: int) -> Float[Tensor, ""]:
        """Cross-entropy of simulated anomalies, each with the previous image of the batch as the foreign one."""
        generator = self.generator(step)
        drawn = [self.augmented(image, generator) for image in self.drawn_images(pixels, self._batch_size, step)]
        anomalies = [self._simulator(image, generator, second=drawn[i - 1]) for i, image in enumerate(drawn)]
        labels = torch.from_numpy(np.stack([anomaly.soft_target for anomaly in anomalies])).to(self.device)  # (b, s, s)
        images = as_tensor([anomaly.image for anomaly in anomalies], self.device)  # (b, 3, s, s)
        return F.binary_cross_entropy_with_logits(self._logits(images), labels)

    def remarks(self, steps: int) -> Sequence[str]:
        """Width, steps and batch size."""
        published = publication_note(self._batch_size, self.published_batch)
        return width_note(self.width), f"{steps} steps of {self._batch_size} images{published}"

    def augmented(
        self, image: UInt8[np.ndarray, "m m 3"], generator: np.random.Generator
    ) -> UInt8[np.ndarray, "s s 3"]:
        """A random crop of the board's size."""
        size_px = self.settings.image_size_px
        top, left = (int(generator.integers(extent - size_px + 1)) for extent in image.shape[:2])
        return image[top : top + size_px, left : left + size_px]

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        size_px = self.settings.image_size_px
        resized = as_tensor([resize_image(image, size_px, size_px)], self.device)  # (1, 3, s, s)
        anomaly_map = as_map(self._logits(resized)[0].sigmoid())
        return ScoredImage(float(anomaly_map.mean()), resized_map(anomaly_map, *image.shape[:2]))

    def _logits(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b s s"]:
        return self.networks[0](self.prepared(images))


class Fpi(SimulatedSegmentation):
    """FPI (Tan, Hou, Batten, Qiu and Kainz 2020): the share of a foreign patch is regressed at each pixel.

    A wide residual encoder-decoder from scratch on images standardised one by one; constant rate.
    """

    key = "fpi"
    published_batch = 32

    def new_network(self) -> nn.Module:
        """As wide as the board allows."""
        return WideEncoderDecoder(self.width)

    def new_simulator(self) -> Simulator:
        """FPI's."""
        return ForeignPatchInterpolation()

    def prepared(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
        """Each with mean 0 and deviation 1."""
        return standardised(images)


class Pii(Fpi):
    """PII (Tan, Hou, Day, Simpson, Rueckert and Kainz 2021): FPI with Poisson blending."""

    key = "pii"

    def new_simulator(self) -> Simulator:
        """PII's."""
        return PoissonImageInterpolation()


class Nsa(SimulatedSegmentation):
    """NSA (Schlueter, Tan, Hou and Kainz 2022) with logistic labels.

    A ResNet-18 encoder-decoder from scratch; cosine from 1e-3. Images are read larger and cropped at random; textures
    are also flipped every other time. The change ``finetune.simulation.nsa_class=CLASS`` of the board's settings
    chooses its parameters, which are those for textures without one.
    """

    key = "nsa"
    published_batch = 64

    def build(self) -> None:
        """Parameters by class, and larger images."""
        self._nsa_class = load_recipe("paper", self.settings.overrides).finetune.simulation.nsa_class
        super().build()
        self.read_size_px = round(self.settings.image_size_px * NSA_CROP_MARGIN)

    def new_network(self) -> nn.Module:
        """As wide as the board allows."""
        return ResNetEncoderDecoder(self.width)

    def new_simulator(self) -> Simulator:
        """NSA's, with the parameters of the class."""
        return NaturalSyntheticAnomalies(nsa_parameters(self._nsa_class))

    def prepared(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
        """With ImageNet's mean and deviation."""
        return imagenet_normalised(images)

    def remarks(self, steps: int) -> Sequence[str]:
        """Also whose parameters are used."""
        return f"parameters for {self._nsa_class or 'textures'}", "no rotations", *super().remarks(steps)

    def rate_at(self, share: float) -> float:
        """Cosine."""
        return cosine_rate(share)

    def augmented(
        self, image: UInt8[np.ndarray, "m m 3"], generator: np.random.Generator
    ) -> UInt8[np.ndarray, "s s 3"]:
        """A random crop, for textures also upside down every other time."""
        cropped = super().augmented(image, generator)
        is_flipped = self._nsa_class is None and generator.random() < 0.5
        return np.ascontiguousarray(cropped[::-1] if is_flipped else cropped)
