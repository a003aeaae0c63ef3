"""Ground truth in one file per defect, as in MVTec LOCO: the file's value says which kind of defect it marks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import UnreadableImageError, decode_stored, read_file
from flawmap.data.sample import DefectMasks
from flawmap.errors import UserError

UNPACK_AGAIN = "unpack the archive again"


@dataclass(frozen=True)
class MarkedDefect:
    """One defect of an image.

    Attributes:
        pixels: bool (h, w), connected or not, at least one True.
        saturation_px: so many found pixels count as the whole defect; from 1 to the number of its pixels.
    """

    pixels: NDArray[np.bool_]
    saturation_px: int


def read_defects(truth: DefectMasks, height: int, width: int) -> tuple[MarkedDefect, ...]:
    """The defects of an image, one from each file, in order.

    Values are labels here and not shades, so :mod:`flawmap.data.images.mask` is not asked.

    Args:
        truth: the files, and how each kind of defect saturates.
        height: of the image; ``width`` likewise.
        width: see there.

    Raises:
        UnreadableImageError: a file cannot be decoded, or its pixels are no labels.
        UserError: a file has another size than the image, no value above 0 or several, or one of no kind of defect.
    """
    return tuple(_read(path, truth, height, width) for path in truth.paths)


def _read(path: Path, truth: DefectMasks, height: int, width: int) -> MarkedDefect:
    labels = np.asarray(decode_stored(read_file(path), place=str(path)).image)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise UnreadableImageError("the mask of a defect has colours or fractions, not labels", str(path), UNPACK_AGAIN)
    if labels.shape != (height, width):
        problem = f"the mask is {labels.shape[1]} x {labels.shape[0]} px, its image {width} x {height} px"
        raise UserError(problem, str(path), "save the mask at the size of its image")
    values = np.unique(labels[labels != 0]).tolist()
    if len(values) != 1:
        found = f"the values {values[0]} and {values[1]}" if values else "no value above 0"
        raise UserError(f"the mask of one defect has {found}", str(path), UNPACK_AGAIN)
    if (saturation := truth.saturations.get(values[0])) is None:
        problem = f"the mask has the value {values[0]}, which is that of no kind of defect in defects_config.json"
        raise UserError(problem, str(path), UNPACK_AGAIN)
    pixels = labels != 0
    return MarkedDefect(pixels, saturation.area_px(int(np.count_nonzero(pixels))))
