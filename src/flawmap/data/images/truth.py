"""Ground truth of an image at the resolution of the image: from its mask or its boxes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.boxes import pixels_in_boxes, remarks_on_boxes
from flawmap.data.images.defect_masks import MarkedDefect, read_defects
from flawmap.data.images.files import MAX_PIXELS, decode_stored, read_file
from flawmap.data.images.mask import decode_mask, read_mask
from flawmap.data.images.orientation import UPRIGHT, swaps_sides, turned_upright
from flawmap.data.sample import Boxes, DefectMasks, KnownDefect, LabelledImage, MaskFile
from flawmap.errors import UserError

MUCH_LARGER = 16  # times the pixels of the image


@dataclass(frozen=True)
class Truth:
    """Where the defect of a test image is.

    Attributes:
        pixels: bool (h, w), True = anomalous; all False for a normal image. None for an anomalous one without a mask
            or boxes, or with an empty mask: the place of its defect is unknown, so it counts for image metrics only.
        remarks: on the mask or the boxes, in words.
        path: of the mask; None where there is none, or several.
        defects: one by one, each with the area at which it counts as found in full, where the data set marks them so.
    """

    pixels: NDArray[np.bool_] | None
    remarks: tuple[str, ...] = ()
    path: Path | None = None
    defects: tuple[MarkedDefect, ...] = ()


def read_truth(sample: LabelledImage, height: int, width: int) -> NDArray[np.bool_] | None:
    """The pixels of :func:`truth_of`; with a mask, the image is decoded for its EXIF orientation.

    Raises:
        UnreadableImageError: the image or its mask cannot be read.
        UserError: as :func:`truth_of`.
    """
    has_mask = sample.is_anomalous and isinstance(sample.truth, MaskFile)
    orientation = decode_stored(read_file(sample.path), place=str(sample.path)).orientation if has_mask else UPRIGHT
    return truth_of(sample, height, width, orientation).pixels


def truth_of(sample: LabelledImage, height: int, width: int, orientation: int = UPRIGHT) -> Truth:
    """The ground truth of an image, and what is odd about it.

    Args:
        sample: the image, its label, and its mask or boxes.
        height: of the upright image; ``width`` likewise.
        width: see there.
        orientation: EXIF orientation of the image's file, 1 to 8.

    Raises:
        UnreadableImageError: the mask cannot be read.
        UserError: the mask has another size than the image, or marks something on a good one; or no box lies inside the
            image.
    """
    if not sample.is_anomalous:
        if isinstance(sample.truth, MaskFile) and (marked := int(read_mask(sample.truth.path).sum())):
            problem = f"{sample.key} is labelled good, and its mask marks {marked} pixels"
            raise UserError(problem, str(sample.truth.path), "correct the label, or remove the mask")
        return Truth(np.zeros((height, width), bool))
    return truth_of_defect(sample, height, width, orientation)


def truth_of_defect(defect: LabelledImage | KnownDefect, height: int, width: int, orientation: int = UPRIGHT) -> Truth:
    """The same for an image with a defect; for the arguments see :func:`truth_of`."""
    if defect.truth is None:
        return Truth(None)
    if isinstance(defect.truth, Boxes):
        mask = pixels_in_boxes(defect.truth, height, width, defect.key)
        return Truth(mask, remarks_on_boxes(defect.truth, height, width, orientation))
    if isinstance(defect.truth, DefectMasks):
        defects = read_defects(defect.truth, height, width)
        return Truth(np.any([one.pixels for one in defects], axis=0), defects=defects)
    return _truth_of_mask(defect.truth.path, height, width, orientation)


def _truth_of_mask(path: Path, height: int, width: int, orientation: int) -> Truth:
    """A mask at the size of its image: as it is, or turned as the image where only that fits."""
    # A few bytes can claim many pixels; a mask that is only somewhat too large is told its size, below.
    mask = decode_mask(read_file(path), str(path), min(MAX_PIXELS, MUCH_LARGER * height * width))
    pixels, remarks = mask.pixels, mask.remarks
    if mask.orientation == UPRIGHT != orientation:
        is_raw = swaps_sides(orientation) and pixels.shape == (width, height) and width != height
        if is_raw:
            pixels = turned_upright(pixels, orientation)
            remarks += (
                f"the image has EXIF orientation {orientation} and the mask has none; the mask has the size of the "
                "stored image, so it is turned as the image is",
            )
        elif pixels.shape == (height, width) and (height == width or not swaps_sides(orientation)):
            remarks += (
                f"the image has EXIF orientation {orientation} and the mask has none, and the mask is taken to be "
                "drawn on the upright image; if a tool that ignores EXIF drew it, give it EXIF orientation "
                f"{orientation}, too",
            )
    elif mask.orientation != orientation:
        own = f"orientation {orientation}" if orientation != UPRIGHT else "no orientation"
        remarks += (f"the mask has EXIF orientation {mask.orientation} and its image {own}; each is turned by its own",)
    if pixels.shape != (height, width):
        raise _wrong_size(path, pixels.shape, (height, width), orientation, mask.orientation)
    return Truth(pixels if pixels.any() else None, remarks, path)


def _wrong_size(
    path: Path, size: tuple[int, ...], expected: tuple[int, int], image_orientation: int, mask_orientation: int
) -> UserError:
    turned = "" if image_orientation == UPRIGHT else f", upright by its EXIF orientation {image_orientation}"
    own = "" if mask_orientation == UPRIGHT else f", upright by its EXIF orientation {mask_orientation}"
    problem = f"the mask is {size[1]} x {size[0]} px{own}, its image {expected[1]} x {expected[0]} px{turned}"
    return UserError(problem, str(path), "save the mask at the size of its image")
