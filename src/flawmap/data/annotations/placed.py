"""Marks on their image: in its pixels, inside it, as boxes and as a mask."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flawmap.data.annotations.annotated import AnnotatedImage, Mark
from flawmap.data.annotations.shapes import Box, BoxPx, Polygons, Shape
from flawmap.data.images.files import decode_stored, read_file
from flawmap.data.images.orientation import UPRIGHT, swaps_sides
from flawmap.errors import UserError

FARTHEST_PX = 1_000_000  # beyond it, coordinates are damaged, and squares of them might overflow


@dataclass(frozen=True)
class PlacedMark:
    """One mark: its kind, its shape, and the box around it as (x, y, width, height), whole pixels inside the image."""

    kind: str
    shape: Shape
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Placed:
    """The marks of one image with a defect.

    Attributes:
        width_px: of the upright image.
        height_px: of the same.
        kinds: names of the defects, sorted; "" stands for a name that is not given.
        marks: those that have an area.
        is_complete: all have; the place of the defect counts as unknown otherwise.
        cut_px: how far the marks leave the image at most.
        is_turned: the file has an EXIF orientation, and its sizes do not tell whether the annotations follow it.
    """

    width_px: int
    height_px: int
    kinds: tuple[str, ...]
    marks: tuple[PlacedMark, ...]
    is_complete: bool
    cut_px: float
    is_turned: bool

    def mask(self) -> NDArray[np.bool_]:
        """All marks together, bool (height, width), True = anomalous; each covers at least a pixel."""
        mask = np.zeros((self.height_px, self.width_px), bool)
        for mark in self.marks:
            inside = np.zeros_like(mask)
            mark.shape.draw(inside)
            if not inside.any():
                x, y, width, height = mark.box
                inside[y : y + height, x : x + width] = True
            mask |= inside
        return mask


def placed(annotated: AnnotatedImage) -> Placed:
    """Read an image's size, and place its marks.

    Raises:
        UserError: the image cannot be read, or has another size than the one that was annotated; or a mark lies
            outside.
    """
    width, height, is_turned = _size(annotated)
    marks, cut_px = [], 0.0
    for mark in annotated.marks:
        if mark.shape is not None:
            shape = _in_pixels(mark.shape, width, height) if annotated.are_shares else mark.shape
            box, cut = _inside(shape.bounds(), width, height, mark)
            marks.append(PlacedMark(mark.kind, shape, box))
            cut_px = max(cut_px, cut)
    kinds = tuple(sorted({mark.kind for mark in annotated.marks}))
    return Placed(width, height, kinds, tuple(marks), len(marks) == len(annotated.marks), cut_px, is_turned)


def _size(annotated: AnnotatedImage) -> tuple[int, int, bool]:
    """Width and height of the upright image, and whether it may have been annotated in another orientation."""
    stored, wanted = decode_stored(read_file(annotated.path), place=str(annotated.path)), annotated.size_px
    (width, height), orientation = stored.image.size, stored.orientation
    if wanted not in (None, (width, height)):
        problem = f"the annotations are for {wanted[0]} x {wanted[1]} px, and the image has {width} x {height}"
        remedy = "annotate this image, or put back the one that was annotated"
        if swaps_sides(orientation) and wanted == (height, width):
            problem += ": they were made without the EXIF orientation of the file"
            remedy = "save the image upright, without an EXIF orientation, and annotate it again"
        raise UserError(problem, f"{annotated.path}, annotated in {annotated.file}", remedy)
    is_told = wanted is not None and width != height and swaps_sides(orientation)
    return width, height, orientation != UPRIGHT and not is_told


def _in_pixels(shape: Shape, width: int, height: int) -> Shape:
    if isinstance(shape, Box):
        x, y, box_width, box_height = shape.xywh_px
        return Box((x * width, y * height, box_width * width, box_height * height))
    if isinstance(shape, Polygons):
        return Polygons(tuple(tuple((x * width, y * height) for x, y in outline) for outline in shape.outlines))
    raise TypeError(f"{type(shape).__name__} has no coordinates that could be shares")


def _inside(box: BoxPx, width: int, height: int, mark: Mark) -> tuple[tuple[int, int, int, int], float]:
    """The pixels of a box inside the image, at least one, and how far it leaves the image."""
    x, y, box_width, box_height = box
    right, bottom = x + box_width, y + box_height
    is_far = max(map(abs, box)) > FARTHEST_PX
    if is_far or x >= width or y >= height or right <= 0 or bottom <= 0:
        at = f"[{x:g}, {y:g}, {box_width:g}, {box_height:g}]"
        problem = f"a mark with x, y, width and height {at} is outside its image, which has {width} x {height} px"
        raise UserError(problem, mark.place, "correct or remove it")
    (left_px, right_px), (top_px, bottom_px) = _pixels(x, right, width), _pixels(y, bottom, height)
    return (left_px, top_px, right_px - left_px, bottom_px - top_px), max(-x, -y, right - width, bottom - height, 0.0)


def _pixels(start: float, end: float, size: int) -> tuple[int, int]:
    """First pixel and end, exclusive, of those whose centre lies between ``start`` and ``end``; at least one."""
    first, last = (min(max(math.floor(value + 0.5), 0), size) for value in (start, end))
    if last > first:
        return first, last
    only = min(max(math.floor(start), 0), size - 1)
    return only, only + 1
