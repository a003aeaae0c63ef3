"""Boxes of defects: the pixels inside them, and signs that their numbers mean something else."""

import math

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.orientation import UPRIGHT, swaps_sides
from flawmap.data.sample import Boxes
from flawmap.errors import UserError

ROUNDING_PX = 1.0  # a box may leave its image by as much, because a tool rounded or counted from 1
Box = tuple[float, float, float, float]


def pixels_in_boxes(boxes: Boxes, height: int, width: int, place: str) -> NDArray[np.bool_]:
    """As :func:`boxes_to_mask`.

    Raises:
        UserError: no box covers a pixel of the image, or the boxes are not in pixels.
    """
    remedy = "boxes are x, y, width and height in pixels of the image as it is displayed"
    if all(0 <= value <= 1 for box in boxes.xywh_px for value in box):
        problem = f"no value of the boxes is above 1: they are shares of the image, not pixels ({width} x {height} px)"
        raise UserError(problem, place, remedy)
    mask = boxes_to_mask(boxes, height, width)
    if not mask.any():
        problem = f"no box covers a pixel of the image ({width} x {height} px), first: {_written(boxes, 0)}"
        raise UserError(problem, place, remedy)
    return mask


def boxes_to_mask(boxes: Boxes, height: int, width: int) -> NDArray[np.bool_]:
    """The union of the boxes, bool (height, width); edges are rounded down, parts outside the image are cut off."""
    mask = np.zeros((height, width), bool)
    for x, y, box_width, box_height in _scaled(boxes, height, width):
        rows, columns = _range(y, box_height, height), _range(x, box_width, width)
        mask[rows.start : rows.stop, columns.start : columns.stop] = True
    return mask


def remarks_on_boxes(boxes: Boxes, height: int, width: int, orientation: int = UPRIGHT) -> tuple[str, ...]:
    """What is odd about boxes of which at least one covers a pixel of the image.

    Args:
        boxes: as they were written.
        height: of the upright image; ``width`` likewise.
        width: see there.
        orientation: EXIF orientation of the image's file, 1 to 8.
    """
    remarks, scaled = [], _scaled(boxes, height, width)
    if leaving := [i for i, box in enumerate(scaled) if not _fits(*_corners(box), height, width)]:
        x, y, w, h = scaled[leaving[0]]
        remark = f"{_first_of(boxes, leaving)} leaves the image ({width} x {height} px)"
        if fit_as_corners(boxes, height, width):
            remark += f"; read as corners x1, y1, x2, y2 it would be {w - x:.4g} x {h - y:.4g} px and lie inside"
        elif swaps_sides(orientation) and _fits(*_corners(scaled[leaving[0]]), width, height):
            remark += f"; it lies inside the stored image, which EXIF orientation {orientation} turns"
        remarks.append(f"{remark}. What is outside is cut off")
    if empty := [i for i, (x, y, w, h) in enumerate(scaled) if not (_range(x, w, width) and _range(y, h, height))]:
        remarks.append(f"{_first_of(boxes, empty)} covers no pixel of the image ({width} x {height} px)")
    if orientation != UPRIGHT:
        remarks.append(
            f"the image has EXIF orientation {orientation}, and its boxes are taken to be in pixels of the upright "
            "image; if a tool that ignores EXIF drew them, turn them as the image is turned"
        )
    return tuple(remarks)


def leave_image(boxes: Boxes, height: int, width: int) -> bool:
    """Whether a box reaches outside of the image by more than rounding explains."""
    return not all(_fits(*_corners(box), height, width) for box in _scaled(boxes, height, width))


def fit_as_corners(boxes: Boxes, height: int, width: int) -> bool:
    """Whether all boxes lie inside the image if their numbers are read as corners x1, y1, x2, y2."""
    return all(
        x1 < x2 and y1 < y2 and _fits(x1, y1, x2, y2, height, width) for x1, y1, x2, y2 in _scaled(boxes, height, width)
    )


def _scaled(boxes: Boxes, height: int, width: int) -> list[Box]:
    """The boxes in pixels of the image at hand."""
    down, across = (height / boxes.original_px, width / boxes.original_px) if boxes.original_px else (1.0, 1.0)
    return [(x * across, y * down, w * across, h * down) for x, y, w, h in boxes.xywh_px]


def _corners(box: Box) -> Box:
    x, y, width, height = box
    return x, y, x + width, y + height


def _range(start: float, length: float, limit: int) -> range:
    """The whole pixels of one side of a box that lie in the image."""
    return range(max(0, math.floor(start)), max(0, min(limit, math.floor(start + length))))


def _fits(left: float, top: float, right: float, bottom: float, height: int, width: int) -> bool:
    return min(left, top) >= -ROUNDING_PX and right <= width + ROUNDING_PX and bottom <= height + ROUNDING_PX


def _first_of(boxes: Boxes, chosen: list[int]) -> str:
    """``box [1, 2, 3, 4], first of 2,``."""
    several = f", first of {len(chosen)}," if len(chosen) > 1 else ""
    return f"box {_written(boxes, chosen[0])}{several}"


def _written(boxes: Boxes, index: int) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in boxes.xywh_px[index])}]"
