"""An image as its file stores it, and how Pillow opens one."""

import io
import threading
import warnings
from dataclasses import dataclass

from PIL import Image, ImageFile

from flawmap.data.images.orientation import UPRIGHT
from flawmap.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")  # Pillow's names of READ_FORMATS without DICOM
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
WARNING_FILTERS = threading.Lock()  # the filters belong to the whole process: only one thread may replace them


@dataclass(frozen=True)
class StoredImage:
    """An image in a mode that holds what its file stores, and how it was read.

    Attributes:
        image: decoded. Colours of more than 8 bits are rounded to 8, because Pillow has no mode for them.
        remarks: what a person should know, such as that the file has several pages.
        largest_of_16_bits: the largest value, on the scale in which 65535 is white; None for 8 bits or floats.
        not_gray: why the values can be labels of a mask, but not gray levels, if so.
        orientation: EXIF orientation of the file, 1 to 8; the image is upright already.
    """

    image: Image.Image
    remarks: tuple[str, ...] = ()
    largest_of_16_bits: int | None = None
    not_gray: UserError | None = None
    orientation: int = UPRIGHT


def open_with_pillow(file: bytes | io.BytesIO, max_pixels: int) -> ImageFile.ImageFile:
    """The image with only its header read. Pillow's warning about many pixels is off: a limit is checked instead.

    Raises:
        UserError: more than ``max_pixels`` pixels.
        Exception: whatever Pillow raises for a damaged header.
    """
    with WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)
    check_size(*image.size, max_pixels)
    return image


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image before it is decoded.

    Raises:
        UserError: more than ``max_pixels`` pixels.
    """
    if width * height > max_pixels:
        raise UserError(f"{width} x {height} px is more than {max_pixels:,} pixels", "", "cut it into tiles")


def remarks_on_frames(image: Image.Image) -> tuple[str, ...]:
    """What to say of an animation, of which Pillow decodes the first frame."""
    num_frames = getattr(image, "n_frames", 1)
    return (f"{num_frames} frames; the first is read",) if num_frames > 1 else ()
