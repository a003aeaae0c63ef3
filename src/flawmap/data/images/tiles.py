"""Overlapping tiles of an image: what a defect of few pixels needs, because it fades when the whole image is shrunk.

An image is resized to whole patches, with its aspect kept. Tiles are squares of patches in it. Each begins at a patch,
so their maps join to one map of all patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.resize import resize_image

OVERLAP = 2  # patches that neighbouring tiles share at least; a token at the edge of a tile sees half of its surround
MOST_TILES = 4  # on average over the good images, beside the whole image: five times the work of the whole image alone
FINER = 1.5  # than in the whole image: tiles that show less more are not worth their time
STEPS = 400  # of scales that are tried


@dataclass(frozen=True)
class Tiling:
    """How images are cut into tiles.

    Attributes:
        scale: pixels of a resized image per pixel of the original, at most 1 where it was chosen automatically; a
            float32 value, as models store it.
        side: of a tile, in patches.
        patch_size_px: side of a patch in the resized image.
    """

    scale: float
    side: int
    patch_size_px: int

    @property
    def side_px(self) -> int:
        """Side of a tile in the resized image."""
        return self.side * self.patch_size_px

    @property
    def patch_of_original_px(self) -> float:
        """Side of a patch in the original image."""
        return self.patch_size_px / self.scale

    def grid(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Rows and columns of patches of an image. A side shorter than a tile is stretched to one tile."""
        rows, columns = (
            max(self.side, int(side_px * self.scale / self.patch_size_px + 0.5)) for side_px in (height_px, width_px)
        )
        return rows, columns

    def places(self, grid: tuple[int, int], inside: NDArray[np.bool_] | None = None) -> list[tuple[int, int]]:
        """Row and column of the first patch of each tile, row by row.

        Args:
            grid: rows and columns of patches of the image.
            inside: (rows, columns), the patches that count; a tile without any is left out. None: all count.
        """
        rows, columns = (starts(length, self.side) for length in grid)
        places = [(row, column) for row in rows for column in columns]
        return places if inside is None else [place for place in places if inside[self.where(place)].any()]

    def where(self, place: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns of patches of the tile that begins there."""
        return slice(place[0], place[0] + self.side), slice(place[1], place[1] + self.side)

    def count(self, height_px: int, width_px: int) -> int:
        """Number of an image's tiles."""
        return len(self.places(self.grid(height_px, width_px)))

    def tiles(
        self, image: NDArray[np.uint8], side_px: int | None = None, inside: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        """The tiles of an image, (t, s, s, 3).

        Args:
            image: the original, (h, w, 3).
            side_px: of a tile, where other than :attr:`side_px` is wanted of the same part of the image.
            inside: see :meth:`places`.
        """
        side_px = side_px or self.side_px
        grid = self.grid(*image.shape[:2])
        height, width = (round(length * side_px / self.side) for length in grid)
        resized = resize_image(image, height, width)
        corners = [[round(start * side_px / self.side) for start in place] for place in self.places(grid, inside)]
        return np.stack([resized[top : top + side_px, left : left + side_px] for top, left in corners])

    @property
    def weights(self) -> NDArray[np.float32]:
        """Of the patches (r, c) of a tile in :meth:`joined`: larger, the farther they are from its edge."""
        weight = np.minimum(np.arange(1, self.side + 1), np.arange(self.side, 0, -1)).clip(max=OVERLAP + 1)
        return np.outer(weight, weight).astype(np.float32)

    def joined(
        self, maps: NDArray[np.float32], grid: tuple[int, int], inside: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """One map of an image (rows, columns) from the maps of its tiles (t, r, c).

        Where tiles overlap, a patch counts by its weight, so that no seam shows.

        Args:
            maps: of the tiles at :meth:`places`.
            grid: rows and columns of patches of the image.
            inside: see :meth:`places`; patches outside get the lowest value of those inside.
        """
        weights = self.weights
        total, counted = np.zeros(grid, np.float32), np.zeros(grid, np.float32)
        for place, of_tile in zip(self.places(grid, inside), maps, strict=True):
            where = self.where(place)
            total[where] += weights * of_tile
            counted[where] += weights
        if inside is None:
            return total / counted
        joined = total / np.where(inside, counted, 1)
        return np.where(inside, joined, joined[inside].min())


def starts(length: int, side: int) -> list[int]:
    """Where tiles of ``side`` patches begin that cover ``length`` patches evenly, ascending."""
    if length <= side:
        return [0]
    count = ceil((length - OVERLAP) / (side - OVERLAP))
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def finest_tiling(sizes_px: Sequence[tuple[int, int]], side: int, patch_size_px: int) -> Tiling | None:
    """The finest tiling with at most :data:`MOST_TILES` tiles per image; None where tiles do not show much more.

    Args:
        sizes_px: height and width of the good images.
        side: of a tile, in patches.
        patch_size_px: side of a patch in the resized image.
    """
    whole = side * patch_size_px / float(np.mean([max(size) for size in sizes_px]))  # where it is shrunk most
    distinct, counts = np.unique(np.array(sizes_px), axis=0, return_counts=True)
    for scale in np.geomspace(1.0, FINER * whole, STEPS) if FINER * whole <= 1 else ():
        tiling = Tiling(float(np.float32(scale)), side, patch_size_px)
        tiles = [tiling.count(int(height), int(width)) for height, width in distinct]
        if np.average(tiles, weights=counts) <= MOST_TILES:
            return tiling
    return None


def tiling_for_defects(
    smallest_px: float, sizes_px: Sequence[tuple[int, int]], side: int, patch_size_px: int
) -> Tiling | None:
    """The coarsest tiling in which the smallest defect is half a patch wide; None where the whole image shows as much.

    Args:
        smallest_px: width of the smallest defect, in pixels of the original image.
        sizes_px: height and width of the good images.
        side: of a tile, in patches.
        patch_size_px: side of a patch in the resized image.
    """
    needed = min(1.0, patch_size_px / (2 * smallest_px))  # an image has no more detail than its pixels
    if needed <= side * patch_size_px / max(max(size) for size in sizes_px):
        return None
    return Tiling(float(np.float32(needed)), side, patch_size_px)
