"""InTra (Pirnay and Chai 2022) at a reduced size: a transformer paints each patch from the patches around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.reproducibility import numpy_generator
from flawmap_bench.baselines.inpainting_transformer import InpaintingTransformer
from flawmap_bench.baselines.map_resize import as_map, resized_map
from flawmap_bench.baselines.residual_networks import publication_note
from flawmap_bench.baselines.structural import mean_filtered, msgms_difference, ssim_difference
from flawmap_bench.baselines.training_loop import as_tensor, constant_rate, drawn_images, train_until_spent
from flawmap_bench.baselines.unet import size_for
from flawmap_bench.method import Budget, MethodSettings, ScoredImage

PATCH_PX = 16  # K
WINDOW = 7  # L, patches to each side of the square that the transformer sees
STRUCTURE_WEIGHT = 0.01  # of MSGMS and of SSIM
SCALES = 3
LEARNING_RATE = 1e-4
MEAN_MAP_IMAGES = 32  # good images whose mean map is what is expected
WINDOWS_AT_ONCE = 64


@dataclass(frozen=True)
class TransformerSize:
    """Width D, number of blocks, heads, and windows per training step."""

    width: int
    blocks: int
    heads: int
    batch_size: int


PUBLISHED_SIZE = TransformerSize(512, 13, 8, 256)
REDUCED_SIZE = TransformerSize(128, 5, 4, 64)


class InTra:
    """Loss: L2 + 0.01 MSGMS + 0.01 SSIM of the patch; score: the highest squared departure from the mean map.

    Args:
        settings: of the board.
    """

    def __init__(self, settings: MethodSettings) -> None:
        self._settings, self._device = settings, settings.compute.device
        self._size = REDUCED_SIZE if self._device == "cpu" else PUBLISHED_SIZE
        self._size_px = size_for(settings.image_size_px, PATCH_PX)
        self._grid = self._size_px // PATCH_PX  # M
        self._window = min(WINDOW, self._grid)
        torch.manual_seed(settings.seed)
        size = self._size
        network = InpaintingTransformer(3 * PATCH_PX**2, size.width, size.blocks, size.heads, self._grid**2)
        self._network = network.to(self._device)
        self._mean_map = torch.zeros(self._size_px, self._size_px, device=self._device)
        self.note = ""

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Random windows with a random patch missing, within the budget; then the mean map of some good images."""
        budget = Budget(self._settings.budget_seconds, self._settings.max_steps)
        pixels = NormalPixels(images, self._size_px)
        optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        self._network.train()

        def loss_of_step(step: int) -> Tensor:
            wanted, painted = self._step(pixels, step)
            structure = msgms_difference(painted, wanted, SCALES, per_channel=True).mean() + ssim_difference(
                painted, wanted
            )
            return F.mse_loss(painted, wanted) + STRUCTURE_WEIGHT * structure

        steps = train_until_spent(budget, optimizer, loss_of_step, constant_rate, self._settings.compute)
        self._network.eval()
        chosen = np.linspace(0, len(pixels) - 1, min(MEAN_MAP_IMAGES, len(pixels))).round().astype(int)
        maps = [self._difference(as_tensor([pixels[int(index)]], self._device)) for index in chosen]
        self._mean_map = torch.stack(maps).mean(dim=0)
        size = self._size
        reduced = "" if size == PUBLISHED_SIZE else f"D = {size.width}, {size.blocks} blocks (publication: 512, 13)"
        of_step = f"{size.batch_size} windows{publication_note(size.batch_size, PUBLISHED_SIZE.batch_size)}"
        windows = f"{steps} steps of {of_step}"
        self.note = "; ".join(part for part in (reduced, windows, f"mean map of {len(chosen)} good images") if part)

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        resized = as_tensor([resize_image(image, self._size_px, self._size_px)], self._device)
        found = as_map((self._difference(resized) - self._mean_map).square())
        return ScoredImage(float(found.max()), resized_map(found, *image.shape[:2]))

    def num_parameters(self) -> int:
        """Of the transformer, and the mean map."""
        return sum(parameter.numel() for parameter in self._network.parameters()) + self._mean_map.numel()

    @torch.no_grad()
    def _difference(self, image: Float[Tensor, "1 3 s s"]) -> Float[Tensor, "s s"]:
        """MSGMS between an image and what is painted with each of its patches missing in turn."""
        patches = as_patches(image)[0]
        windows = torch.from_numpy(np.stack([self._around(place) for place in range(self._grid**2)])).to(self._device)
        painted = []
        for start in range(0, len(windows), WINDOWS_AT_ONCE):
            of_part = windows[start : start + WINDOWS_AT_ONCE]
            places = torch.arange(start, start + len(of_part), device=self._device)
            missing = (of_part == places[:, None]).int().argmax(dim=1)
            painted.append(self._network(patches[of_part], of_part, missing).float())
        whole = as_image(torch.cat(painted)[None], self._grid).clamp(0, 1)
        return mean_filtered(msgms_difference(whole, image, SCALES, per_channel=True))[0]

    def _step(self, pixels: NormalPixels, step: int) -> tuple[Tensor, Tensor]:
        """The missing patches and what is painted in their place, both (b, 3, K, K) in [0, 1]."""
        generator = numpy_generator(self._settings.seed, "intra", step)
        count, side = self._size.batch_size, self._window
        images = as_tensor(drawn_images(pixels, count, self._settings.seed, "intra", step), self._device)
        corners = generator.integers(0, self._grid - side + 1, size=(count, 2))
        windows = torch.from_numpy(np.stack([self._from_corner(int(top), int(left)) for top, left in corners])).to(
            self._device
        )
        missing = torch.from_numpy(generator.integers(0, side * side, size=count)).to(self._device)
        patches = as_patches(images).gather(1, windows[..., None].expand(-1, -1, 3 * PATCH_PX**2))
        wanted = patches[torch.arange(count, device=self._device), missing]
        painted = self._network(patches, windows, missing).float()
        return wanted.unflatten(1, (3, PATCH_PX, PATCH_PX)), painted.unflatten(1, (3, PATCH_PX, PATCH_PX))

    def _around(self, place: int) -> Int[np.ndarray, "n"]:
        """Numbers of the patches of the window that has a patch in its middle, or as near to it as the border lets."""
        top, left = (min(max(at - self._window // 2, 0), self._grid - self._window) for at in divmod(place, self._grid))
        return self._from_corner(top, left)

    def _from_corner(self, top: int, left: int) -> Int[np.ndarray, "n"]:
        rows, columns = np.arange(top, top + self._window), np.arange(left, left + self._window)
        return (rows[:, None] * self._grid + columns).ravel()


def as_patches(images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n d"]:
    """Patches in row-major order, each flattened from (3, K, K)."""
    return F.unfold(images, PATCH_PX, stride=PATCH_PX).transpose(1, 2)


def as_image(patches: Float[Tensor, "b n d"], grid: int) -> Float[Tensor, "b 3 s s"]:
    """The inverse of :func:`as_patches`."""
    return F.fold(patches.transpose(1, 2), grid * PATCH_PX, PATCH_PX, stride=PATCH_PX)
