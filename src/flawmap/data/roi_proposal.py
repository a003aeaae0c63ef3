"""A region of interest proposed from good X-rays: without the dark border of the collimator and without burnt-in text.

A model may tell hospitals apart by either. Both are looked for in good images alone, and only where they stay at the
same place: a region of interest is the same in all images of a camera. It is a proposal, which nothing applies by
itself.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from flawmap.data.images.files import read_image
from flawmap.data.sample import NormalImage

FEWEST_IMAGES = 10  # with fewer, what stays at its place by chance cannot be told from what always does
MOST_IMAGES = 200  # that are read, spread evenly by name
DARK = 12  # gray levels up to this one are dark
DARK_SHARE = 0.9  # of the pixels of a row or column of a border; the others may be text
BORDER_IMAGES = 0.8  # share of the images whose border is as deep: the others lose what they show there
LEAST_BORDER = 0.01  # of a side
BRIGHT = 230  # text is as bright as this or brighter
CONTRAST = 100  # and so much brighter than what lies around it
LARGEST_MARK = 1 / 20  # of the longer side
TEXT_IMAGES = 0.5  # share of the images with text at the same place
OPENING_PX = 256  # longer side of the image in which everything is removed that is not larger than a mark
WHOLE = {"inside": [{"rectangle": [0, 0, 1, 1]}]}
CELLS = 64  # along each side: as exactly a place is known

Box = tuple[float, float, float, float]  # in shares of an image


@dataclass(frozen=True)
class RoiProposal:
    """What a region of interest should leave out.

    Attributes:
        border: depth of the dark border at the left, top, right and bottom; 0 for none.
        texts: left, top, right and bottom of each place with text inside that border.
    """

    border: Box
    texts: tuple[Box, ...]

    @property
    def words(self) -> str:
        """What was found, in one line."""
        sides = zip(("left", "top", "right", "bottom"), self.border, strict=True)
        depths = ", ".join(f"{name} {depth:.1%}" for name, depth in sides if depth)
        found = [f"a dark border in {BORDER_IMAGES:.0%} of the images ({depths})"] if depths else []
        if self.texts:
            places = "one place" if len(self.texts) == 1 else f"{len(self.texts)} places"
            found.append(f"small bright marks, like text, at {places} in half of the images or more")
        return " and ".join(found)

    @property
    def content(self) -> dict[str, Any]:
        """The region, for :mod:`flawmap.data.roi`."""
        left, top, right, bottom = self.border
        inside = [{"rectangle": _rounded(left, top, 1 - right, 1 - bottom)}] if any(self.border) else []
        content = {"inside": inside, "outside": [{"rectangle": _rounded(*text)} for text in self.texts]}
        return {name: shapes for name, shapes in content.items() if shapes}


@dataclass(frozen=True)
class ProposedRois:
    """What the region of interest of each camera should leave out.

    Attributes:
        of_cameras: by the name of the camera, None where there is nothing to leave out. The name None stands for images
            whose camera nobody has named.
    """

    of_cameras: Mapping[str | None, RoiProposal | None]

    @property
    def words(self) -> str:
        """What was found, in one line."""
        found = ((camera, proposal) for camera, proposal in self.of_cameras.items() if proposal is not None)
        return "; ".join(f"{proposal.words}{f' (camera {camera})' if camera else ''}" for camera, proposal in found)

    def to_text(self) -> str:
        """The regions as JSON, for :mod:`flawmap.data.rois`."""
        content = {name: proposal.content if proposal else WHOLE for name, proposal in self.of_cameras.items()}
        others = content.pop(None, WHOLE)
        return json.dumps({"cameras": content, **others} if content else others, indent=2) + "\n"


def propose_rois(images: Sequence[NormalImage]) -> ProposedRois | None:
    """Look for dark borders and text in the images of each camera.

    Args:
        images: good images that can be decoded.

    Returns:
        what was found; None where that is nothing, see :func:`propose_roi`.
    """
    of_cameras = defaultdict[str | None, list[NormalImage]](list)
    for image in images:
        of_cameras[image.camera].append(image)
    proposed = {camera: propose_roi(its) for camera, its in of_cameras.items()}
    return ProposedRois(proposed) if any(proposed.values()) else None


def propose_roi(images: Sequence[NormalImage]) -> RoiProposal | None:
    """Look for dark borders and text that all these images have in common.

    Args:
        images: good images that can be decoded.

    Returns:
        what was found; None where that is nothing, where there are few images, or where one has colours and so is no
        X-ray.
    """
    if len(images) < FEWEST_IMAGES:
        return None
    borders, marks = [], []
    for image in images[:: -(-len(images) // MOST_IMAGES)]:
        pixels = read_image(image.path)
        if (pixels != pixels[..., :1]).any():
            return None
        borders.append(dark_border(pixels[..., 0]))
        marks.append(mark_cells(pixels[..., 0]))
    return proposal_of(borders, marks)


def proposal_of(borders: Sequence[Box], marks: Sequence[NDArray[np.bool_]]) -> RoiProposal | None:
    """The proposal from what each image shows; see :func:`dark_border` and :func:`mark_cells`."""
    enough = math.ceil(BORDER_IMAGES * len(borders) - 1e-9)
    depths = np.sort(np.array(borders), axis=0)[len(borders) - enough]  # (4,), as deep in that many images
    left, top, right, bottom = (float(depth) if depth >= LEAST_BORDER else 0.0 for depth in depths)
    places = []
    for box in _boxes(np.mean(marks, axis=0) >= TEXT_IMAGES):
        kept = max(box[0], left), max(box[1], top), min(box[2], 1 - right), min(box[3], 1 - bottom)
        if kept[0] < kept[2] and kept[1] < kept[3]:
            places.append(kept)
    border = (left, top, right, bottom)
    return RoiProposal(border, tuple(places)) if any(border) or places else None


def dark_border(gray: NDArray[np.uint8]) -> Box:
    """How deep rows and columns are dark at the left, top, right and bottom of an image (h, w), in shares of its side.

    An image that is dark all over has no border.
    """
    dark = gray <= DARK
    rows, columns = dark.mean(axis=1) >= DARK_SHARE, dark.mean(axis=0) >= DARK_SHARE
    return _depth(columns), _depth(rows), _depth(columns[::-1]), _depth(rows[::-1])


def _depth(is_dark: NDArray[np.bool_]) -> float:
    return 0.0 if is_dark.all() else float(np.argmin(is_dark)) / len(is_dark)


def mark_cells(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where an image (h, w) has small bright marks, bool (CELLS, CELLS), with the cells beside them.

    A mark is far brighter than what remains when everything is removed that is smaller than a square of
    :data:`LARGEST_MARK` (a morphological opening). It is computed in a small image of the highest values, which can
    only miss marks and never takes an edge for one.
    """
    factor = max(1, -(-max(gray.shape) // OPENING_PX))
    highest = _highest_of_blocks(gray, factor)
    opened = Image.fromarray(highest)
    steps = max(1, round(max(highest.shape) * LARGEST_MARK / 2))
    # Each step is a square of 3 x 3 pixels. One more goes back, so that the rims of round parts are no marks.
    for filter_ in [ImageFilter.MinFilter(3)] * steps + [ImageFilter.MaxFilter(3)] * (steps + 1):
        opened = opened.filter(filter_)
    around = np.asarray(opened).repeat(factor, axis=0).repeat(factor, axis=1)[: gray.shape[0], : gray.shape[1]]
    y, x = np.nonzero((gray >= BRIGHT) & (gray.astype(np.int16) - around >= CONTRAST))
    cells = np.zeros((CELLS, CELLS), bool)
    cells[y * CELLS // gray.shape[0], x * CELLS // gray.shape[1]] = True
    padded = np.pad(cells, 1)
    return np.logical_or.reduce([padded[i : i + CELLS, j : j + CELLS] for i in range(3) for j in range(3)])


def _highest_of_blocks(gray: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = (-(-length // side) for length in gray.shape)
    padded = np.pad(gray, ((0, height * side - gray.shape[0]), (0, width * side - gray.shape[1])))
    return padded.reshape(height, side, width, side).max(axis=(1, 3))


def _boxes(cells: NDArray[np.bool_]) -> Iterator[Box]:
    """Left, top, right and bottom of each group of cells that touch, if only at a corner."""
    rest = {(int(row), int(column)) for row, column in np.argwhere(cells)}
    while rest:
        group, new = set(), {min(rest)}
        while new:
            group |= new
            rest -= new
            new = {(r + i, c + j) for r, c in new for i in (-1, 0, 1) for j in (-1, 0, 1)} & rest
        rows, columns = zip(*group, strict=True)
        yield min(columns) / CELLS, min(rows) / CELLS, (max(columns) + 1) / CELLS, (max(rows) + 1) / CELLS


def _rounded(*numbers: float) -> list[float]:
    return [round(number, 4) for number in numbers]
