"""InTra (Pirnay and Chai 2022) at a reduced size: a transformer paints each patch from the patches around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap_bench.baselines.from_scratch import TrainedFromScratch, as_tensor, publication_note
from flawmap_bench.baselines.maps import as_map, resized_map
from flawmap_bench.baselines.structural import mean_filtered, msgms_difference, ssim_difference
from flawmap_bench.baselines.unet import size_for
from flawmap_bench.method import ScoredImage

PATCH_PX = 16  # K
WINDOW = 7  # L, the transformer sees L x L patches
STRUCTURE_WEIGHT = 0.01  # of MSGMS and of SSIM
SCALES = 3
MEAN_MAP_IMAGES = 32  # good images whose mean map is subtracted
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


class InTra(TrainedFromScratch):
    """Loss: L2 + 0.01 MSGMS + 0.01 SSIM of the patch; score: the highest squared difference from the mean map.

    The transformer has one of two sizes, by the device and whatever ``width`` is.
    """

    key = "intra"
    learning_rate = 1e-4

    def build(self) -> None:
        """The transformer, and no mean map yet."""
        self._size = REDUCED_SIZE if self.device == "cpu" else PUBLISHED_SIZE
        self.read_size_px = size_for(self.settings.image_size_px, PATCH_PX)
        grid = self.read_size_px // PATCH_PX
        self.windows = WindowGrid(grid, min(WINDOW, grid))
        size = self._size
        network = InpaintingTransformer(3 * PATCH_PX**2, size.width, size.blocks, size.heads, grid**2)
        self._network = network.to(self.device)
        self.networks.append(self._network)
        self._mean_map = torch.zeros(self.read_size_px, self.read_size_px, device=self.device)
        self._n_mean_images = 0

    def loss_of_step(self, pixels: NormalPixels, step: int) -> Float[Tensor, ""]:
        """Of random windows with a random patch missing."""
        wanted, painted = self._step(pixels, step)
        structure = msgms_difference(painted, wanted, SCALES, per_channel=True).mean() + ssim_difference(
            painted, wanted
        )
        return F.mse_loss(painted, wanted) + STRUCTURE_WEIGHT * structure

    def after_training(self, pixels: NormalPixels) -> None:
        """The mean map of some good images."""
        chosen = np.linspace(0, len(pixels) - 1, min(MEAN_MAP_IMAGES, len(pixels))).round().astype(int)
        maps = [self._difference(as_tensor([pixels[int(index)]], self.device)) for index in chosen]
        self._mean_map, self._n_mean_images = torch.stack(maps).mean(dim=0), len(chosen)

    def remarks(self, steps: int) -> Sequence[str]:
        """Size, steps and the mean map."""
        size = self._size
        reduced = "" if size == PUBLISHED_SIZE else f"D = {size.width}, {size.blocks} blocks (publication: 512, 13)"
        published = publication_note(size.batch_size, PUBLISHED_SIZE.batch_size)
        return (
            reduced,
            f"{steps} steps of {size.batch_size} windows{published}",
            f"mean map of {self._n_mean_images} good images",
        )

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        resized = as_tensor([resize_image(image, self.read_size_px, self.read_size_px)], self.device)
        anomaly_map = as_map((self._difference(resized) - self._mean_map).square())
        return ScoredImage(float(anomaly_map.max()), resized_map(anomaly_map, *image.shape[:2]))

    def num_parameters(self) -> int:
        """Of the transformer, and the mean map."""
        return super().num_parameters() + self._mean_map.numel()

    @torch.no_grad()
    def _difference(self, image: Float[Tensor, "1 3 s s"]) -> Float[Tensor, "s s"]:
        """MSGMS between an image and the one painted with each of its patches missing in turn."""
        grid = self.windows.grid
        patches = as_patches(image)[0]  # (n, 3 K K)
        windows = torch.from_numpy(np.stack([self.windows.around(place) for place in range(grid**2)])).to(self.device)
        painted = []
        for start in range(0, len(windows), WINDOWS_AT_ONCE):
            part = windows[start : start + WINDOWS_AT_ONCE]  # (w, L L)
            places = torch.arange(start, start + len(part), device=self.device)
            missing = (part == places[:, None]).int().argmax(dim=1)  # (w,)
            painted.append(self._network(patches[part], part, missing).float())
        whole = as_image(torch.cat(painted)[None], grid).clamp(0, 1)  # (1, 3, s, s)
        return mean_filtered(msgms_difference(whole, image, SCALES, per_channel=True))[0]

    def _step(self, pixels: NormalPixels, step: int) -> tuple[Float[Tensor, "b 3 k k"], Float[Tensor, "b 3 k k"]]:
        """The missing patches and what is painted in their place, in [0, 1]."""
        generator = self.generator(step)
        count, side = self._size.batch_size, self.windows.side
        images = as_tensor(self.drawn_images(pixels, count, step), self.device)  # (b, 3, s, s)
        corners = generator.integers(0, self.windows.grid - side + 1, size=(count, 2))
        windows = torch.from_numpy(
            np.stack([self.windows.from_corner(int(top), int(left)) for top, left in corners])
        ).to(self.device)  # (b, L L)
        missing = torch.from_numpy(generator.integers(0, side * side, size=count)).to(self.device)  # (b,)
        patches = as_patches(images).gather(1, windows[..., None].expand(-1, -1, 3 * PATCH_PX**2))  # (b, L L, 3 K K)
        wanted = patches[torch.arange(count, device=self.device), missing]  # (b, 3 K K)
        painted = self._network(patches, windows, missing).float()
        return wanted.unflatten(1, (3, PATCH_PX, PATCH_PX)), painted.unflatten(1, (3, PATCH_PX, PATCH_PX))


@dataclass(frozen=True)
class WindowGrid:
    """Square windows of an image's patches, as flat indices of patches.

    Attributes:
        grid: M, patches along each side of the image.
        side: L, patches along each side of a window.
    """

    grid: int
    side: int

    def around(self, place: int) -> Int[np.ndarray, "n"]:
        """The window with this patch at its centre, or as near to it as the border permits."""
        top, left = (min(max(at - self.side // 2, 0), self.grid - self.side) for at in divmod(place, self.grid))
        return self.from_corner(top, left)

    def from_corner(self, top: int, left: int) -> Int[np.ndarray, "n"]:
        """The window whose first patch is in this row and column."""
        rows, columns = np.arange(top, top + self.side), np.arange(left, left + self.side)
        return (rows[:, None] * self.grid + columns).ravel()


class InpaintingTransformer(nn.Module):
    """Paints one missing patch of a window; its blocks have long skips.

    Args:
        patch_values: numbers per patch.
        width: D of a token.
        blocks: of the transformer.
        heads: of each block's attention.
        places: patches of the whole image, each with a learned position.
    """

    def __init__(self, patch_values: int, width: int, blocks: int, heads: int, places: int) -> None:
        super().__init__()
        self.embed, self.paint = nn.Linear(patch_values, width), nn.Linear(width, patch_values)
        self.positions = nn.Parameter(0.02 * torch.randn(places, width))
        self.hole = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, patches: Float[Tensor, "b n v"], places: Int[Tensor, "b n"], missing: Int[Tensor, "b"]
    ) -> Float[Tensor, "b v"]:
        """The missing patches.

        Args:
            patches: of each window; the values of the missing one are not used.
            places: indices of the patches in the whole image.
            missing: which of the n is missing.
        """
        is_missing = torch.arange(patches.shape[1], device=patches.device) == missing[:, None]  # (b, n)
        x = torch.where(is_missing[..., None], self.hole, self.embed(patches)) + self.positions[places]  # (b, n, d)
        outputs: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            if number > len(self.blocks) / 2:  # a block of the second half also sees the output of one of the first
                x = x + outputs[len(self.blocks) - number]
            x = block(x)
            outputs.append(x)
        return self.paint(self.norm(x).mean(dim=1))


class _Block(nn.Module):
    """Attention whose queries and keys come from a small network and values from a linear one, then an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys = _narrowing(width), _narrowing(width)
        self.values, self.mix = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        normed = self.norm1(x)
        q, k, v = (
            net(normed).unflatten(2, (self.heads, -1)).transpose(1, 2) for net in (self.queries, self.keys, self.values)
        )  # (b, heads, n, d / heads), for q and k half of that
        x = x + self.mix(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def _narrowing(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width // 2))


def as_patches(images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n d"]:
    """Patches in row-major order, each flattened from (3, K, K)."""
    return F.unfold(images, PATCH_PX, stride=PATCH_PX).transpose(1, 2)


def as_image(patches: Float[Tensor, "b n d"], grid: int) -> Float[Tensor, "b 3 s s"]:
    """The inverse of :func:`as_patches`."""
    return F.fold(patches.transpose(1, 2), grid * PATCH_PX, PATCH_PX, stride=PATCH_PX)
