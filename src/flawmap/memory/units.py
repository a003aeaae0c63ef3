"""What a memory learns from: whole good images, or tiles of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from flawmap.data.groups import Identity, by_image_if_few, identities
from flawmap.data.images.files import ImageReader, read_image
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.tiles import Tiling
from flawmap.data.roi import RegionOfInterest
from flawmap.data.rois import RegionsOfInterest, depends_on, roi_of_each
from flawmap.data.sample import NormalImage
from flawmap.engine.sampling import evenly_spread
from flawmap.memory.candidates import Shares
from flawmap.recipe.settings import Recipe
from flawmap.vit.encoder import Encoder


class WholeImages:
    """Good images, each resized to a square.

    Args:
        images: good images.
        rois: the part of each that counts; None: all.
        views: see the attribute.

    Attributes:
        name: begins the names of the stages.
        noun: what one of them is called in messages.
        depends_on: what determines them, beside the images.
        identities: of the images: what must stay together with each.
        images: (u,) int32, number of the image that each is of.
        rois: the region of interest of each image; None: all counts.
        views: numbers of the views that fill the memory where there are few images; None: those that help.
    """

    name: str = ""
    noun: str = "image"
    images: Tensor

    def __init__(
        self,
        images: Sequence[NormalImage],
        rois: RegionsOfInterest | None = None,
        views: tuple[int, ...] | None = None,
    ) -> None:
        self._images, self._regions, self.rois = tuple(images), rois, roi_of_each(rois, images)
        self.views: tuple[int, ...] | None = views
        self.depends_on: dict[str, Any] = depends_on(rois, images)
        self.identities: tuple[Identity, ...] = identities(by_image_if_few(images))
        self.images = torch.arange(len(images), dtype=torch.int32)

    def part(self, images: range) -> "WholeImages":
        """Some of them."""
        return WholeImages(self._images[images.start : images.stop], self._regions, self.views)

    def pixels(self, size_px: int, memory_limit_bytes: int = 0, read: ImageReader = read_image) -> "NormalPixels":
        """Squares of this size; see :class:`NormalPixels`."""
        return NormalPixels(self._images, size_px, memory_limit_bytes, self.rois, read)

    def inside(self, grid: tuple[int, int]) -> Bool[Tensor, "u n"] | None:
        """The patches of each that count; None: all."""
        if self.rois is None:
            return None
        return torch.from_numpy(np.stack([roi.patches(grid).ravel() for roi in self.rois]))

    def products_of(self, numbers: Sequence[int]) -> list[str]:
        """Of some of the images; empty where products have no names."""
        products = [image.product for image in self._images]
        named = [product for product in products if product is not None]
        return [named[number] for number in numbers] if len(named) == len(products) > 1 else []

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
        rois: the part of each image that counts; tiles without any of it are left out. None: all.
        views: those of the whole images, or as many of these as there is room for.
    """

    name: str = "tiles_"
    noun: str = "tile"
    images: Tensor

    def __init__(
        self,
        images: Sequence[NormalImage],
        originals_px: Int[np.ndarray, "i 2"],
        tiling: Tiling,
        rois: RegionsOfInterest | None = None,
        views: tuple[int, ...] = (),
    ) -> None:
        self._images, self._originals_px, self._tiling = tuple(images), originals_px, tiling
        self._regions, self.rois = rois, roi_of_each(rois, images)
        self.views = views
        self.depends_on: dict[str, Any] = {"scale": tiling.scale} | depends_on(rois, images)
        self.identities: tuple[Identity, ...] = identities(by_image_if_few(images))
        grids = [tiling.grid(int(height), int(width)) for height, width in originals_px]
        of_images = [None] * len(grids) if self.rois is None else self.rois
        self._patches = [roi and roi.patches(grid) for roi, grid in zip(of_images, grids, strict=True)]
        self.counts: list[int] = [len(tiling.places(*of_image)) for of_image in zip(grids, self._patches, strict=True)]
        self.images = torch.from_numpy(np.repeat(np.arange(len(images), dtype=np.int32), self.counts))

    def part(self, images: range) -> "Tiles":
        """The tiles of some of the images."""
        some = slice(images.start, images.stop)
        return Tiles(self._images[some], self._originals_px[some], self._tiling, self._regions, self.views)

    def pixels(self, size_px: int, memory_limit_bytes: int = 0, read: ImageReader = read_image) -> "TilePixels":
        """Tiles of this size; the images are larger or smaller by as much as tiles differ from the encoder's."""
        return TilePixels(self._images, self._originals_px, self._patches, self._tiling, size_px, self.rois, read)

    def inside(self, grid: tuple[int, int]) -> Bool[Tensor, "u n"] | None:
        """The patches of each tile that count; None: all."""
        if self.rois is None:
            return None
        tiling, of_tiles = self._tiling, list[np.ndarray]()
        for patches in self._patches:
            assert patches is not None
            rows, columns = patches.shape
            of_tiles += [patches[tiling.where(place)].ravel() for place in tiling.places((rows, columns), patches)]
        return torch.from_numpy(np.stack(of_tiles))

    def products_of(self, numbers: Sequence[int]) -> list[str]:
        """None: by whole images alone, products are told apart."""
        return []

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
        patches: of each image, those that count in its tiles' grid; None: all.
        tiling: how they are cut.
        size_px: side s.
        rois: of each image; outside of it, pixels get one colour. None keeps all.
        read: gives the pixels of a file.

    Attributes:
        originals_px: of the image of each tile.

    Raises:
        UserError: a file cannot be decoded.
    """

    def __init__(
        self,
        images: Sequence[NormalImage],
        originals_px: Int[np.ndarray, "i 2"],
        patches: Sequence[Bool[np.ndarray, "_ _"] | None],
        tiling: Tiling,
        size_px: int,
        rois: Sequence[RegionOfInterest] | None = None,
        read: ImageReader = read_image,
    ) -> None:
        self._images, self._tiling, self._size_px, self._patches, self._rois = images, tiling, size_px, patches, rois
        self._read_image = read
        sizes_px = [(int(height), int(width)) for height, width in originals_px]
        of_images = [tiling.places(tiling.grid(*size), of) for size, of in zip(sizes_px, patches, strict=True)]
        self._places = [(image, tile) for image, places in enumerate(of_images) for tile in range(len(places))]
        self.originals_px = np.repeat(originals_px, [len(places) for places in of_images], axis=0)
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> np.ndarray:
        image, tile = self._places[number]
        if (last := self._last) is None or last[0] != image:
            pixels = self._read_image(self._images[image].path)
            if self._rois is not None:
                pixels = self._rois[image].with_grey_outside(pixels)
            last = self._last = image, self._tiling.tiles(pixels, self._size_px, self._patches[image])
        return last[1][tile]

    def inside(self, number: int) -> Bool[np.ndarray, "s s"] | None:
        """The pixels of a tile in the region of interest; None: all."""
        if self._rois is None:
            return None
        image, tile = self._places[number]
        tiling, (height, width) = self._tiling, self.originals_px[number].tolist()
        grid = tiling.grid(height, width)
        scale = self._size_px / tiling.side
        top, left = (round(start * scale) for start in tiling.places(grid, self._patches[image])[tile])
        drawn = self._rois[image].at(round(grid[0] * scale), round(grid[1] * scale))
        return drawn[top : top + self._size_px, left : left + self._size_px]
