"""What NSA, FPI and PII share: a network learns to map the simulated anomalies' soft labels, pixel by pixel.

The image score is the mean of the map, as in all three publications.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.simulated_anomaly import Simulator
from flawmap_bench.baselines.map_resize import as_map, resized_map
from flawmap_bench.baselines.residual_networks import publication_note
from flawmap_bench.baselines.training_loop import as_tensor, drawn_images, train_until_spent
from flawmap_bench.method import Budget, MethodSettings, ScoredImage

PROCESSOR_BATCH = 8  # images per step; with the published ones a processor would make a few dozen steps in minutes
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class SegmentationMethod:
    """What differs between the three.

    Attributes:
        key: name of the random streams.
        simulator: makes image and soft label.
        network: one logit per pixel.
        prepare: images in [0, 1] to what the network takes.
        rate_at: of the learning rate, by the spent share of the budget.
        batch_size: of the publication.
        remark: for the board.
        crop_margin: images are read this much larger than they are used, and cropped at random.
        flips: whether they are turned upside down, too, every other time.
    """

    key: str
    simulator: Simulator
    network: Callable[[], nn.Module]
    prepare: Callable[[Tensor], Tensor]
    rate_at: Callable[[float], float]
    batch_size: int
    remark: str
    crop_margin: float = 1.0
    flips: bool = False


class SimulatedSegmentation:
    """One of the three methods.

    Args:
        settings: of the board.
        method: which.
    """

    def __init__(self, settings: MethodSettings, method: SegmentationMethod) -> None:
        self._settings, self._method = settings, method
        self._batch_size = PROCESSOR_BATCH if settings.compute.device == "cpu" else method.batch_size
        torch.manual_seed(settings.seed)
        self._network = method.network().to(settings.compute.device)
        self.note = ""

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Binary cross-entropy with the soft labels, Adam."""
        budget = Budget(self._settings.budget_seconds, self._settings.max_steps)
        pixels = NormalPixels(images, round(self._settings.image_size_px * self._method.crop_margin))
        optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        self._network.train()

        def loss_of_step(step: int) -> Tensor:
            changed, labels = self._batch(pixels, step)
            return F.binary_cross_entropy_with_logits(self._network(self._method.prepare(changed)), labels)

        steps = train_until_spent(budget, optimizer, loss_of_step, self._method.rate_at, self._settings.compute)
        self._network.eval()
        published = publication_note(self._batch_size, self._method.batch_size)
        made = f"{steps} steps of {self._batch_size} images{published}"
        self.note = "; ".join(part for part in (self._method.remark, made) if part)

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        size_px = self._settings.image_size_px
        resized = as_tensor([resize_image(image, size_px, size_px)], self._settings.compute.device)
        found = as_map(self._network(self._method.prepare(resized))[0].sigmoid())
        return ScoredImage(float(found.mean()), resized_map(found, *image.shape[:2]))

    def num_parameters(self) -> int:
        """Of the network."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def _batch(self, pixels: NormalPixels, step: int) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b s s"]]:
        """Simulated anomalies, each with the image before it in the batch as the foreign one."""
        generator = numpy_generator(self._settings.seed, self._method.key, step)
        drawn = drawn_images(pixels, self._batch_size, self._settings.seed, self._method.key, step)
        drawn = [self._augmented(image, generator) for image in drawn]
        made = [self._method.simulator(image, generator, second=drawn[i - 1]) for i, image in enumerate(drawn)]
        labels = torch.from_numpy(np.stack([anomaly.soft_target for anomaly in made]))
        device = self._settings.compute.device
        return as_tensor([anomaly.image for anomaly in made], device), labels.to(device)

    def _augmented(
        self, image: UInt8[np.ndarray, "m m 3"], generator: np.random.Generator
    ) -> UInt8[np.ndarray, "s s 3"]:
        size_px = self._settings.image_size_px
        top, left = (int(generator.integers(extent - size_px + 1)) for extent in image.shape[:2])
        cropped = image[top : top + size_px, left : left + size_px]
        is_flipped = self._method.flips and generator.random() < 0.5
        return np.ascontiguousarray(cropped[::-1] if is_flipped else cropped)
