"""EXIF orientation: how a stored image has to be turned to be upright, and which tools forget to."""

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation of a decoded image, 1 to 8; 1 (upright) where it has none, or none that is valid."""
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    return orientation if orientation in _TURNS else UPRIGHT


def swaps_sides(orientation: int) -> bool:
    """Whether the upright image is as wide as the stored one is high."""
    return orientation >= 5


def turned_upright(stored: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    """A mask that was drawn on the stored image, bool (h, w), turned as the image is."""
    if orientation == UPRIGHT:
        return stored
    return np.asarray(Image.fromarray(stored.astype(np.uint8)).transpose(_TURNS[orientation])).astype(bool)
