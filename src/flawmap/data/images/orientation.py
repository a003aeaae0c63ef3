"""EXIF orientation: how a stored image has to be turned to be upright, and which tools forget to."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from flawmap.data.images.stored import FORMATS, WARNING_FILTERS

UPRIGHT = 1
_PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # the places of EXIF in a PNG file
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_orientation(data: bytes) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 (upright) where it has none, or none that is valid.

    Args:
        data: the whole file.
    """
    if data.startswith(b"\x89PNG") and not any(name in data for name in _PNG_EXIF):
        return UPRIGHT  # Pillow would decode all pixels, because EXIF may follow them
    try:
        with WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = Image.open(io.BytesIO(data), formats=FORMATS).getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a file that Pillow does not read, such as DICOM, or one with damaged metadata
        return UPRIGHT
    return orientation if orientation in _TURNS else UPRIGHT


def swaps_sides(orientation: int) -> bool:
    """Whether the upright image is as wide as the stored one is high."""
    return orientation >= 5


def turned_upright(stored: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    """A mask that was drawn on the stored image, bool (h, w), turned as the image is."""
    if orientation == UPRIGHT:
        return stored
    return np.asarray(Image.fromarray(stored.astype(np.uint8)).transpose(_TURNS[orientation])).astype(bool)
