"""Ground truth of a test image, at the resolution of the image."""

import math

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import read_mask
from flawmap.data.sample import Boxes, LabelledImage, MaskFile
from flawmap.errors import UserError


def read_truth(sample: LabelledImage, height: int, width: int) -> NDArray[np.bool_] | None:
    """Anomalous pixels, bool (height, width), True = anomalous.

    Returns:
        all False for a normal image; None for an anomalous one without a mask or box, or with an empty mask:
        nobody has said where its anomaly is, so it counts for image metrics only.

    Raises:
        UserError: the mask cannot be read or has another size than the image, or no box lies inside the image.
    """
    if not sample.is_anomalous:
        return np.zeros((height, width), bool)
    if sample.truth is None:
        return None
    if isinstance(sample.truth, Boxes):
        mask = boxes_to_mask(sample.truth, height, width)
        if not mask.any():
            raise UserError(
                f"no box covers a pixel of the image ({width} x {height} px)",
                sample.key,
                "boxes are x, y, width and height in pixels of the image as it is displayed",
            )
    else:
        mask = _read_mask_of_size(sample.truth, height, width)
    return mask if mask.any() else None


def boxes_to_mask(boxes: Boxes, height: int, width: int) -> NDArray[np.bool_]:
    """The union of the boxes; edges are rounded down, and what lies outside the image is cut off."""
    mask = np.zeros((height, width), bool)
    for x, y, box_width, box_height in boxes.xywh_px:
        rows = slice(max(0, math.floor(y)), max(0, math.floor(y + box_height)))
        columns = slice(max(0, math.floor(x)), max(0, math.floor(x + box_width)))
        mask[rows, columns] = True
    return mask


def _read_mask_of_size(truth: MaskFile, height: int, width: int) -> NDArray[np.bool_]:
    mask = read_mask(truth.path)
    if mask.shape != (height, width):
        raise UserError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} px, its image {width} x {height} px",
            str(truth.path),
            "save the mask at the size of its image",
        )
    return mask
