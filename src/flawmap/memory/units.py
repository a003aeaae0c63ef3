"""What a memory learns from: whole good images, or tiles of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from flawmap.data.groups import Identity, by_image_if_few, identities
from flawmap.data.images.files import read_image
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.tiles import Tiling
from flawmap.data.sample import NormalImage
from flawmap.engine.sampling import evenly_spread
from flawmap.memory.candidates import Shares
from flawmap.recipe.settings import Recipe
from flawmap.vit.encoder import Encoder


class WholeImages:
    """Good images, each resized to a square.

    Attributes:
        name: begins the names of the stages.
        noun: what they are called in messages.
        depends_on: what determines them, beside the images.
        identities: of the images: what must stay together with each.
        images: (u,) int32, number of the image that each is of.
    """

    name, noun = "", "images"
    images: Tensor

    def __init__(self, images: Sequence[NormalImage]) -> None:
        self._images = tuple(images)
        self.depends_on: dict[str, Any] = {}
        self.identities: tuple[Identity, ...] = identities(by_image_if_few(images))
        self.images = torch.arange(len(images), dtype=torch.int32)

    def pixels(self, size_px: int, memory_limit_bytes: int = 0) -> "NormalPixels":
        """Squares of this size; see :class:`NormalPixels`."""
        return NormalPixels(self._images, size_px, memory_limit_bytes)

    def shares(self, encoder: Encoder, recipe: Recipe, size_px: int) -> Shares:
        """Of which tokens are kept."""
        rows, columns = encoder.grid(size_px, size_px)
        return Shares.of(len(self._images), (rows, columns), recipe)


class Tiles:
    """Tiles of good images; for the attributes see :class:`WholeImages`.

    Args:
        images: good images.
        originals_px: (i, 2), their heights and widths.
        tiling: how they are cut.
    """

    name, noun = "tiles_", "tiles"
    images: Tensor

    def __init__(self, images: Sequence[NormalImage], originals_px: Int[np.ndarray, "i 2"], tiling: Tiling) -> None:
        self._images, self._originals_px, self._tiling = tuple(images), originals_px, tiling
        self.depends_on: dict[str, Any] = {"scale": tiling.scale}
        self.identities: tuple[Identity, ...] = identities(by_image_if_few(images))
        self.counts = [tiling.count(int(height), int(width)) for height, width in originals_px]
        self.images = torch.from_numpy(np.repeat(np.arange(len(images), dtype=np.int32), self.counts))

    def pixels(self, size_px: int, memory_limit_bytes: int = 0) -> "TilePixels":
        """Tiles of this size; the images are larger or smaller by as much as tiles differ from the encoder's."""
        return TilePixels(self._images, self._originals_px, self.counts, self._tiling, size_px)

    def shares(self, encoder: Encoder, recipe: Recipe, size_px: int) -> Shares:
        """Of which tokens are kept: the references are all tiles of some images, so that those can be judged whole."""
        rows, columns = encoder.grid(size_px, size_px)
        share = Shares.of(len(self.images), (rows, columns), recipe)
        at_most = min(
            recipe.expectation.images, int(recipe.expectation.tokens / (rows * columns) / np.mean(self.counts))
        )
        of_images = torch.tensor(evenly_spread(len(self._images), max(1, at_most)))
        return replace(share, references=tuple(torch.isin(self.images, of_images).nonzero()[:, 0].tolist()))


class TilePixels:
    """The tiles of good images by number, uint8 (s, s, 3). The image that was read last is kept.

    Args:
        images: to read.
        originals_px: (i, 2), their heights and widths.
        counts: of the tiles of each.
        tiling: how they are cut.
        size_px: side s.

    Attributes:
        originals_px: of the image of each tile.

    Raises:
        UserError: a file cannot be decoded.
    """

    def __init__(
        self,
        images: Sequence[NormalImage],
        originals_px: Int[np.ndarray, "i 2"],
        counts: Sequence[int],
        tiling: Tiling,
        size_px: int,
    ) -> None:
        self._images, self._tiling, self._size_px = images, tiling, size_px
        self._places = [(image, tile) for image, count in enumerate(counts) for tile in range(count)]
        self.originals_px = np.repeat(originals_px, counts, axis=0)
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> np.ndarray:
        image, tile = self._places[number]
        if (last := self._last) is None or last[0] != image:
            pixels = read_image(self._images[image].path)
            last = self._last = image, self._tiling.tiles(pixels, self._size_px)
        return last[1][tile]
