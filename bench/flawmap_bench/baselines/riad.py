"""RIAD (Zavrtanik, Kristan and Skocaj 2021): hidden cells of the image are painted in; differences are anomalous."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.reproducibility import numpy_generator
from flawmap_bench.baselines.from_scratch import TrainedFromScratch, as_tensor, width_note
from flawmap_bench.baselines.maps import as_map, resized_map
from flawmap_bench.baselines.structural import mean_filtered, msgms_difference, ssim_difference
from flawmap_bench.baselines.unet import UNet, scaled, size_for
from flawmap_bench.method import ScoredImage

CHANNELS = (64, 128, 256, 512, 512)
CELLS_PX = (2, 4, 8, 16)  # k
SETS = 3  # n: each cell is hidden in one of them
SCALES = 4
BATCH = 4
DROP_AT, DROP = 250 / 300, 0.1


class Riad(TrainedFromScratch):
    """A U-Net from scratch; loss L2 + MSGMS + SSIM; map: MSGMS, the mean over all cell sizes and a square of 21 px."""

    key = "riad"
    learning_rate = 1e-4

    def build(self) -> None:
        """One U-Net."""
        self._network = UNet(3, 3, scaled(CHANNELS, self.width), has_skips=True).to(self.device)
        self.networks.append(self._network)
        self.read_size_px = size_for(self.settings.image_size_px, max(CELLS_PX))

    def rate_at(self, share: float) -> float:
        """A tenth after five sixths of the budget."""
        return 1.0 if share < DROP_AT else DROP

    def loss_of_step(self, pixels: NormalPixels, step: int) -> Float[Tensor, ""]:
        """Of what is painted, with one cell size."""
        generator = self.generator(step)
        drawn = as_tensor(self.drawn_images(pixels, BATCH, step), self.device)  # (b, 3, s, s)
        painted = self._painted(drawn, int(generator.choice(CELLS_PX)), generator)
        l2 = F.mse_loss(2 * painted, 2 * drawn)  # of values in [-1, 1]
        return l2 + msgms_difference(painted, drawn, SCALES).mean() + ssim_difference(painted, drawn)

    def remarks(self, steps: int) -> Sequence[str]:
        """Width and steps."""
        return width_note(self.width), f"{steps} steps of {BATCH} images"

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`; every image has the same sets of hidden cells."""
        size_px = self.read_size_px
        resized = as_tensor([resize_image(image, size_px, size_px)], self.device)  # (1, 3, s, s)
        total = torch.zeros(1, size_px, size_px, device=self.device)
        for cell_px in CELLS_PX:
            generator = numpy_generator(self.settings.seed, "riad test", cell_px)
            total += msgms_difference(self._painted(resized, cell_px, generator), resized, SCALES) / len(CELLS_PX)
        anomaly_map = as_map(mean_filtered(total)[0])
        return ScoredImage(float(anomaly_map.max()), resized_map(anomaly_map, *image.shape[:2]))

    def _painted(
        self, images: Float[Tensor, "b 3 s s"], cell_px: int, generator: np.random.Generator
    ) -> Float[Tensor, "b 3 s s"]:
        """Every pixel as the network paints it from the images in which it is hidden; in [0, 1]."""
        hidden = hidden_sets(self.read_size_px, cell_px, generator).to(images.device)  # (sets, s, s)
        shown = (2 * images - 1)[None] * ~hidden[:, None, None]  # (sets, b, 3, s, s)
        painted = self._network(shown.flatten(0, 1)).float().tanh().unflatten(0, (SETS, len(images)))
        return (painted * hidden[:, None, None]).sum(dim=0) / 2 + 0.5


def hidden_sets(size_px: int, cell_px: int, generator: np.random.Generator) -> Bool[Tensor, "sets s s"]:
    """Random disjoint sets of cells, True = hidden; together they cover all pixels."""
    cells = size_px // cell_px
    set_of_cell = generator.permutation(cells * cells).reshape(cells, cells) % SETS
    set_of_pixel = np.kron(set_of_cell, np.ones((cell_px, cell_px), int))
    return torch.from_numpy(np.stack([set_of_pixel == number for number in range(SETS)]))
