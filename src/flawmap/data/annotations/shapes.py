"""Shapes that mark a defect, and which pixels they cover.

Coordinates are in pixels of the image, x to the right and y down; the first pixel reaches from (0, 0) to (1, 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

BoxPx = tuple[float, float, float, float]  # x, y, width, height


@runtime_checkable
class Shape(Protocol):
    """A marked place."""

    def bounds(self) -> BoxPx:
        """The smallest box around it."""
        ...

    def draw(self, mask: NDArray[np.bool_]) -> None:
        """Set the pixels (height, width) that it covers to True; parts outside are cut off."""
        ...


@dataclass(frozen=True)
class Box:
    """A rectangle along the image's sides; a pixel belongs to it if its centre does."""

    xywh_px: BoxPx

    def bounds(self) -> BoxPx:
        return self.xywh_px

    def draw(self, mask: NDArray[np.bool_]) -> None:
        x, y, width, height = self.xywh_px
        top, bottom, left, right = (max(0, math.floor(edge + 0.5)) for edge in (y, y + height, x, x + width))
        mask[top:bottom, left:right] = True


@dataclass(frozen=True)
class Polygons:
    """One or several outlines, each of three or more corners; a pixel belongs to them if its centre is inside one.

    An outline that crosses itself is filled by the even-odd rule.
    """

    outlines: tuple[tuple[tuple[float, float], ...], ...]

    def bounds(self) -> BoxPx:
        corners = np.array([corner for outline in self.outlines for corner in outline])  # (n, 2)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return left, top, right - left, bottom - top

    def draw(self, mask: NDArray[np.bool_]) -> None:
        for outline in self.outlines:
            inside = _even_odd(outline, *mask.shape)
            if not inside.any():  # thinner than a pixel: the pixels that its edges pass through
                inside = _edges(outline, *mask.shape)
            mask |= inside


@dataclass(frozen=True)
class RunLengths:
    """Lengths of runs of 0 and 1 in turn, down the columns of the image, beginning with 0 (COCO)."""

    counts: tuple[int, ...]
    height: int
    width: int

    def pixels(self) -> NDArray[np.bool_]:
        """The whole mask, bool (height, width)."""
        values = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(values, self.counts).reshape(self.width, self.height).T

    def bounds(self) -> BoxPx:
        return _bounds_of(self.pixels())

    def draw(self, mask: NDArray[np.bool_]) -> None:
        mask |= self.pixels()


@dataclass(frozen=True)
class Bitmap:
    """A mask of its own, bool (height, width), with its upper left corner at (left, top)."""

    pixels: NDArray[np.bool_]
    left: int = 0
    top: int = 0

    def bounds(self) -> BoxPx:
        x, y, width, height = _bounds_of(self.pixels)
        return x + self.left, y + self.top, width, height

    def draw(self, mask: NDArray[np.bool_]) -> None:
        rows = slice(max(0, -self.top), max(0, mask.shape[0] - self.top))
        columns = slice(max(0, -self.left), max(0, mask.shape[1] - self.left))
        part = self.pixels[rows, columns]
        top, left = max(0, self.top), max(0, self.left)
        mask[top : top + part.shape[0], left : left + part.shape[1]] |= part


def _bounds_of(pixels: NDArray[np.bool_]) -> BoxPx:
    """The box around the True pixels; of no width and height if there are none."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    left, top = float(columns[0]), float(rows[0])
    return left, top, float(columns[-1] + 1) - left, float(rows[-1] + 1) - top


def _even_odd(outline: Sequence[tuple[float, float]], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside: left of it, an odd number of edges crosses the row of centres."""
    crossings = np.zeros((height, width + 1), np.int32)
    for (x1, y1), (x2, y2) in zip(outline, (*outline[1:], outline[0]), strict=True):
        (x_top, y_top), (x_low, y_low) = sorted(((x1, y1), (x2, y2)), key=lambda corner: corner[1])
        first, end = (min(max(math.ceil(y - 0.5), 0), height) for y in (y_top, y_low))
        if first >= end:
            continue
        rows = np.arange(first, end)
        x = x_top + (rows + 0.5 - y_top) * ((x_low - x_top) / (y_low - y_top))
        columns = np.ceil(x - 0.5).clip(0, width).astype(np.intp)  # the first pixel whose centre is right of the edge
        np.add.at(crossings, (rows, columns), 1)
    return np.cumsum(crossings, axis=1)[:, :width] % 2 == 1


def _edges(outline: Sequence[tuple[float, float]], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels that the edges pass through, as steps of at most half a pixel find them."""
    mask = np.zeros((height, width), bool)
    for start, end in zip(outline, (*outline[1:], outline[0]), strict=True):
        (x1, y1), (x2, y2) = (
            (min(max(x, -1.0), width + 1.0), min(max(y, -1.0), height + 1.0)) for x, y in (start, end)
        )
        steps = np.linspace(0, 1, 2 * math.ceil(max(abs(x2 - x1), abs(y2 - y1))) + 2)
        x, y = np.floor(x1 + steps * (x2 - x1)).astype(int), np.floor(y1 + steps * (y2 - y1)).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        mask[y[inside], x[inside]] = True
    return mask
