"""DRAEM (Zavrtanik, Kristan and Skocaj 2021): one network repairs simulated anomalies, a second one finds them."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.reproducibility import numpy_generator
from flawmap.simulators import draem
from flawmap_bench.baselines.map_resize import as_map, resized_map
from flawmap_bench.baselines.residual_networks import width_factor, width_note
from flawmap_bench.baselines.structural import mean_filtered, ssim_difference
from flawmap_bench.baselines.training_loop import as_tensor, drawn_images, train_until_spent
from flawmap_bench.baselines.unet import UNet, scaled, size_for
from flawmap_bench.method import Budget, MethodSettings, ScoredImage

REPAIR_CHANNELS = (128, 256, 512, 1024, 1024)
FIND_CHANNELS = (64, 128, 256, 512, 512, 512)
BATCH = 8
LEARNING_RATE = 1e-4
ANOMALIES = 0.5  # share of images that get one
ROTATED, MAX_ROTATION_DEG = 0.3, 90.0
FOCAL_GAMMA = 2.0


class Draem:
    """Loss: L2 and SSIM of the repair, focal loss of the map; textures are made of noise, for want of DTD.

    Args:
        settings: of the board.
        width: share of the publication's channels; None: by the device.
    """

    def __init__(self, settings: MethodSettings, width: float | None = None) -> None:
        self._settings, self._device = settings, settings.compute.device
        self._width = width or width_factor(self._device)
        torch.manual_seed(settings.seed)
        self._repair = UNet(3, 3, scaled(REPAIR_CHANNELS, self._width), has_skips=False).to(self._device)
        self._find = UNet(6, 2, scaled(FIND_CHANNELS, self._width), has_skips=True).to(self._device)
        self._size_px = size_for(settings.image_size_px, self._find.factor)
        self._simulator = draem.Draem(probability=ANOMALIES)
        self.note = ""

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Both networks together, within the budget; the rate falls to a fifth at 80 and at 90 % of it."""
        budget = Budget(self._settings.budget_seconds, self._settings.max_steps)
        pixels = NormalPixels(images, self._size_px)
        optimizer = torch.optim.Adam([*self._repair.parameters(), *self._find.parameters()], lr=LEARNING_RATE)
        self._repair.train()
        self._find.train()

        def loss_of_step(step: int) -> Tensor:
            clean, changed, masks = self._batch(pixels, step)
            repaired, logits = self._both(changed)
            return F.mse_loss(repaired, clean) + ssim_difference(repaired, clean) + focal_loss(logits, masks)

        steps = train_until_spent(budget, optimizer, loss_of_step, _rate_at, self._settings.compute)
        self._repair.eval()
        self._find.eval()
        parts = ("textures of noise in place of DTD", width_note(self._width), f"{steps} steps of {BATCH} images")
        self.note = "; ".join(part for part in parts if part)

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        resized = as_tensor([resize_image(image, self._size_px, self._size_px)], self._device)
        shares = self._both(resized)[1].softmax(dim=1)[:, 1]
        highest = float(mean_filtered(shares).max())
        return ScoredImage(highest, resized_map(as_map(shares[0]), *image.shape[:2]))

    def num_parameters(self) -> int:
        """Of both networks."""
        return sum(p.numel() for network in (self._repair, self._find) for p in network.parameters())

    def _both(self, images: Float[Tensor, "b 3 s s"]) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b 2 s s"]]:
        """The repaired images, and the logits of normal and anomalous."""
        repaired = self._repair(images).float()
        return repaired, self._find(torch.cat([repaired, images], dim=1)).float()

    def _batch(self, pixels: NormalPixels, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Clean images, the same with anomalies, and where these are, bool (b, s, s)."""
        generator = numpy_generator(self._settings.seed, "draem", step)
        drawn = drawn_images(pixels, BATCH, self._settings.seed, "draem", step)
        clean = [_rotated(image, generator) if generator.random() < ROTATED else image for image in drawn]
        made = [self._simulator(image, generator) for image in clean]
        masks = torch.from_numpy(np.stack([anomaly.footprint for anomaly in made])).to(self._device)
        return as_tensor(clean, self._device), as_tensor([anomaly.image for anomaly in made], self._device), masks


def focal_loss(logits: Float[Tensor, "b 2 s s"], masks: Tensor) -> Float[Tensor, ""]:
    """-(1 - p)^2 ln p, with p the share of the right class, the mean over pixels; ``masks`` bool (b, s, s)."""
    log_share = -F.cross_entropy(logits, masks.long(), reduction="none")
    return -((1 - log_share.exp()) ** FOCAL_GAMMA * log_share).mean()


def _rate_at(share: float) -> float:
    return 1.0 if share < 0.8 else 0.2 if share < 0.9 else 0.04


def _rotated(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image.shape[:2]
    angle_deg = generator.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
