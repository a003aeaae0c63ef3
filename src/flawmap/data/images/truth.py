"""How a file becomes a mask: ground truth of a test image, at the resolution of the image."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import decode_upright, read_file
from flawmap.data.sample import Boxes, LabelledImage
from flawmap.errors import UserError


def read_truth(sample: LabelledImage, height: int, width: int) -> NDArray[np.bool_] | None:
    """Anomalous pixels, bool (height, width), True = anomalous.

    Returns:
        all False for a normal image. None for an anomalous one without a mask or boxes, or with an empty mask: the
        place of its defect is unknown, so it counts for image metrics only.

    Raises:
        UnreadableImageError: the mask cannot be read.
        UserError: the mask has another size than the image, or no box lies inside the image.
    """
    if not sample.is_anomalous:
        return np.zeros((height, width), bool)
    if sample.truth is None:
        return None
    if isinstance(sample.truth, Boxes):
        mask = boxes_to_mask(sample.truth, height, width)
        if not mask.any():
            remedy = "boxes are x, y, width and height in pixels of the image as it is displayed"
            raise UserError(f"no box covers a pixel of the image ({width} x {height} px)", sample.key, remedy)
        return mask
    mask = read_mask(sample.truth.path)
    if mask.shape != (height, width):
        problem = f"the mask is {mask.shape[1]} x {mask.shape[0]} px, its image {width} x {height} px"
        raise UserError(problem, str(sample.truth.path), "save the mask at the size of its image")
    return mask if mask.any() else None


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read a mask as bool (height, width): every non-zero pixel or palette index is anomalous.

    In a JPEG file, pixels above half are: compression scatters small values around each edge.

    Raises:
        UnreadableImageError: as :func:`flawmap.data.images.files.read_image`.
    """
    image = decode_upright(read_file(path), place=str(path))
    highest_normal = 127 if image.format in ("JPEG", "MPO") else 0
    if image.mode in ("CMYK", "YCbCr", "LAB"):  # black is not zero in these
        image = image.convert("RGB")
    values = np.asarray(image)
    if values.ndim == 3:
        has_alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa")
        values = (values[..., :-1] if has_alpha else values).max(axis=2)
    return values > highest_normal


def boxes_to_mask(boxes: Boxes, height: int, width: int) -> NDArray[np.bool_]:
    """The union of the boxes, bool (height, width); edges are rounded down, parts outside the image are cut off."""
    down, across = (height / boxes.original_px, width / boxes.original_px) if boxes.original_px else (1, 1)
    mask = np.zeros((height, width), bool)
    for x, y, box_width, box_height in boxes.xywh_px:
        left, top, right, bottom = x * across, y * down, x * across + box_width * across, y * down + box_height * down
        rows = slice(max(0, math.floor(top)), max(0, math.floor(bottom)))
        columns = slice(max(0, math.floor(left)), max(0, math.floor(right)))
        mask[rows, columns] = True
    return mask
