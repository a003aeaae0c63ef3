"""RIAD (Zavrtanik, Kristan and Skocaj 2021): hidden cells of the image are painted in again; what differs is odd."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.reproducibility import numpy_generator
from flawmap_bench.baselines.map_resize import as_map, resized_map
from flawmap_bench.baselines.residual_networks import width_factor, width_note
from flawmap_bench.baselines.structural import mean_filtered, msgms_difference, ssim_difference
from flawmap_bench.baselines.training_loop import as_tensor, drawn_images, train_until_spent
from flawmap_bench.baselines.unet import UNet, scaled, size_for
from flawmap_bench.method import Budget, MethodSettings, ScoredImage

CHANNELS = (64, 128, 256, 512, 512)
CELLS_PX = (2, 4, 8, 16)  # k
SETS = 3  # n: each cell is hidden in one of them
SCALES = 4
BATCH = 4
LEARNING_RATE, DROP_AT, DROP = 1e-4, 250 / 300, 0.1


class Riad:
    """A U-Net from scratch; loss L2 + MSGMS + SSIM; map: MSGMS, the mean over all cell sizes and a square of 21 px.

    Args:
        settings: of the board.
        width: share of the publication's channels; None: by the device.
    """

    def __init__(self, settings: MethodSettings, width: float | None = None) -> None:
        self._settings, self._device = settings, settings.compute.device
        self._width = width or width_factor(self._device)
        torch.manual_seed(settings.seed)
        self._network = UNet(3, 3, scaled(CHANNELS, self._width), has_skips=True).to(self._device)
        self._size_px = size_for(settings.image_size_px, max(CELLS_PX))
        self.note = ""

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Within the budget; the rate falls to a tenth after five sixths of it."""
        budget = Budget(self._settings.budget_seconds, self._settings.max_steps)
        pixels = NormalPixels(images, self._size_px)
        optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        self._network.train()

        def loss_of_step(step: int) -> Tensor:
            generator = numpy_generator(self._settings.seed, "riad", step)
            drawn = as_tensor(drawn_images(pixels, BATCH, self._settings.seed, "riad", step), self._device)
            painted = self._painted(drawn, int(generator.choice(CELLS_PX)), generator)
            l2 = F.mse_loss(2 * painted, 2 * drawn)  # of values in [-1, 1]
            return l2 + msgms_difference(painted, drawn, SCALES).mean() + ssim_difference(painted, drawn)

        def rate_at(share: float) -> float:
            return 1.0 if share < DROP_AT else DROP

        steps = train_until_spent(budget, optimizer, loss_of_step, rate_at, self._settings.compute)
        self._network.eval()
        self.note = "; ".join(part for part in (width_note(self._width), f"{steps} steps of {BATCH} images") if part)

    @torch.no_grad()
    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`; the cells' sets are the same for every image."""
        resized = as_tensor([resize_image(image, self._size_px, self._size_px)], self._device)
        total = torch.zeros(1, self._size_px, self._size_px, device=self._device)
        for cell_px in CELLS_PX:
            generator = numpy_generator(self._settings.seed, "riad test", cell_px)
            total += msgms_difference(self._painted(resized, cell_px, generator), resized, SCALES) / len(CELLS_PX)
        found = as_map(mean_filtered(total)[0])
        return ScoredImage(float(found.max()), resized_map(found, *image.shape[:2]))

    def num_parameters(self) -> int:
        """Of the network."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def _painted(
        self, images: Float[Tensor, "b 3 s s"], cell_px: int, generator: np.random.Generator
    ) -> Float[Tensor, "b 3 s s"]:
        """Every pixel as the network paints it from the images in which it is hidden; in [0, 1]."""
        hidden = hidden_sets(self._size_px, cell_px, generator).to(images.device)  # (sets, s, s)
        shown = (2 * images - 1)[None] * ~hidden[:, None, None]
        painted = self._network(shown.flatten(0, 1)).float().tanh().unflatten(0, (SETS, len(images)))
        return (painted * hidden[:, None, None]).sum(dim=0) / 2 + 0.5


def hidden_sets(size_px: int, cell_px: int, generator: np.random.Generator) -> Tensor:
    """Random disjoint sets of cells as bool (sets, size, size), True = hidden; together they are all pixels."""
    cells = size_px // cell_px
    which = generator.permutation(cells * cells).reshape(cells, cells) % SETS
    pixels = np.kron(which, np.ones((cell_px, cell_px), int))
    return torch.from_numpy(np.stack([pixels == number for number in range(SETS)]))
