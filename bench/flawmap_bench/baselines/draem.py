"""DRAEM (Zavrtanik, Kristan and Skocaj 2021): one network repairs simulated anomalies, a second one finds them."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap_bench.baselines.from_scratch import TrainedFromScratch, as_tensor, width_note
from flawmap_bench.baselines.maps import as_map, resized_map
from flawmap_bench.baselines.structural import mean_filtered, ssim_difference
from flawmap_bench.baselines.unet import UNet, scaled, size_for
from flawmap_bench.method import ScoredImage
from flawmap_bench.simulators import draem

REPAIR_CHANNELS = (128, 256, 512, 1024, 1024)
FIND_CHANNELS = (64, 128, 256, 512, 512, 512)
BATCH = 8
ANOMALIES = 0.5  # share of images that get one
ROTATED, MAX_ROTATION_DEG = 0.3, 90.0
FOCAL_GAMMA = 2.0


class Draem(TrainedFromScratch):
    """Loss: L2 and SSIM of the repair, focal loss of the map; textures are made of noise, since DTD is not at hand."""

    key = "draem"
    learning_rate = 1e-4

    def build(self) -> None:
        """Two U-Nets."""
        self._repair = UNet(3, 3, scaled(REPAIR_CHANNELS, self.width), has_skips=False).to(self.device)
        self._find = UNet(6, 2, scaled(FIND_CHANNELS, self.width), has_skips=True).to(self.device)
        self.networks.extend([self._repair, self._find])
        self.read_size_px = size_for(self.settings.image_size_px, self._find.factor)
        self._simulator = draem.Draem(probability=ANOMALIES)

    def rate_at(self, share: float) -> float:
        """A fifth from 80 % of the budget on, and a fifth of that from 90 % on."""
        return 1.0 if share < 0.8 else 0.2 if share < 0.9 else 0.04

    def loss_of_step(self, pixels: NormalPixels, step: int) -> Float[Tensor, ""]:
        """Of both networks together."""
        generator = self.generator(step)
        drawn = self.drawn_images(pixels, BATCH, step)
        clean = [_rotated(image, generator) if generator.random() < ROTATED else image for image in drawn]
        anomalies = [self._simulator(image, generator) for image in clean]
        masks = torch.from_numpy(np.stack([anomaly.footprint for anomaly in anomalies])).to(self.device)  # (b, s, s)
        wanted = as_tensor(clean, self.device)  # (b, 3, s, s)
        repaired, logits = self._both(as_tensor([anomaly.image for anomaly in anomalies], self.device))
        return F.mse_loss(repaired, wanted) + ssim_difference(repaired, wanted) + focal_loss(logits, masks)

    def remarks(self, steps: int) -> Sequence[str]:
        """Textures, width and steps."""
        return "textures of noise in place of DTD", width_note(self.width), f"{steps} steps of {BATCH} images"

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        resized = as_tensor([resize_image(image, self.read_size_px, self.read_size_px)], self.device)
        shares = self._both(resized)[1].softmax(dim=1)[:, 1]  # (1, s, s)
        highest = float(mean_filtered(shares).max())
        return ScoredImage(highest, resized_map(as_map(shares[0]), *image.shape[:2]))

    def _both(self, images: Float[Tensor, "b 3 s s"]) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b 2 s s"]]:
        """The repaired images, and the logits of normal and anomalous."""
        repaired = self._repair(images).float()
        return repaired, self._find(torch.cat([repaired, images], dim=1)).float()


def focal_loss(logits: Float[Tensor, "b 2 s s"], masks: Bool[Tensor, "b s s"]) -> Float[Tensor, ""]:
    """-(1 - p)^2 ln p, with p the probability of the right class, the mean over pixels."""
    log_share = -F.cross_entropy(logits, masks.long(), reduction="none")  # (b, s, s)
    return -((1 - log_share.exp()) ** FOCAL_GAMMA * log_share).mean()


def _rotated(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image.shape[:2]
    angle_deg = generator.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
