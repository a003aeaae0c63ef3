"""How an image file becomes pixels: any common format as uint8 RGB, or an error that names the file.

This is the only place that decides it. :func:`read_image`, :func:`decode_image`, :func:`decode_gray_values` and
:func:`decode_upright` all decode with the one reader of the file's format.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from flawmap.data.images.dicom import GrayValues, dicom_gray_values, is_dicom, read_dicom
from flawmap.data.images.formats import HEAD_BYTES, format_of, not_read
from flawmap.data.images.jpeg import read_jpeg
from flawmap.data.images.orientation import UPRIGHT, exif_orientation
from flawmap.data.images.png import read_png
from flawmap.data.images.rgb import upright_to_rgb
from flawmap.data.images.stored import SIXTEEN_BIT_MODES, StoredImage, open_with_pillow, remarks_on_frames
from flawmap.data.images.tiff import read_tiff
from flawmap.errors import UserError
from flawmap.storage.remote_file import RemoteFile

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".dcm"),
)
MAX_PIXELS = 170_000_000  # 13,000 x 13,000; a larger file is more likely a decompression bomb than a photograph
ImageReader = Callable[[Path], NDArray[np.uint8]]
MAX_FILE_BYTES = 1_500_000_000  # MAX_PIXELS of 16-bit RGB, with some room


class UnreadableImageError(UserError):
    """A file that is not an image, or not one that can be decoded."""


@dataclass(frozen=True)
class DecodedImage:
    """The pixels of a file, uint8 RGB (height, width, 3), and what a person should know of how they were read.

    ``largest_of_16_bits`` is the largest value of an image of 16 bits, on the scale in which 65535 is white, and
    ``orientation`` the EXIF orientation of the file, 1 to 8, by which the pixels were turned.
    """

    pixels: NDArray[np.uint8]
    remarks: tuple[str, ...] = ()
    largest_of_16_bits: int | None = None
    orientation: int = UPRIGHT


def read_image(path: str | Path | RemoteFile) -> NDArray[np.uint8]:
    """Read an image as uint8 RGB (height, width, 3) in [0, 255].

    EXIF rotation is applied. Gray is repeated, CMYK and palettes are converted, and transparent pixels are shown over
    black, unless all are transparent. 16-bit values are divided by 257 and rounded; floats must lie in [0, 1]. Of
    several pages the largest is read, and of several frames the first. DICOM is windowed
    (:mod:`flawmap.data.images.dicom`).

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, too large, or not an image in a known format.
    """
    return decode_image(read_file(path), place=str(path))


def read_file(path: str | Path | RemoteFile) -> bytes:
    """The bytes of an image file, on a disk or in a store.

    Raises:
        UnreadableImageError: the file cannot be read, or is too large to be an image.
    """
    try:
        if (size := path.size if isinstance(path, RemoteFile) else Path(path).stat().st_size) > MAX_FILE_BYTES:
            problem = f"the file has {size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}"
            raise UnreadableImageError(problem, str(path), "remove it, or cut it into tiles")
        return path.read_bytes() if isinstance(path, RemoteFile) else Path(path).read_bytes()
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror or error}"
        raise UnreadableImageError(problem, str(path), "check the path") from error


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS, place: str = "") -> NDArray[np.uint8]:
    """As :func:`read_image`, from the bytes of a file, for example an upload.

    Args:
        data: the whole file.
        max_pixels: larger images are refused before they are decoded.
        place: where the file comes from, for errors.

    Raises:
        UnreadableImageError: as :func:`read_image`.
    """
    return decode_with_remarks(data, max_pixels, place).pixels


def decode_with_remarks(data: bytes, max_pixels: int = MAX_PIXELS, place: str = "") -> DecodedImage:
    """As :func:`decode_image`, with remarks such as that a file has several pages.

    Raises:
        UnreadableImageError: as :func:`read_image`.
    """
    stored = _shown(data, max_pixels, place)
    try:
        pixels, remarks = upright_to_rgb(stored.image)
    except UserError as error:
        raise UnreadableImageError(error.problem, place, error.remedy) from error
    is_deep_gray = stored.image.mode in SIXTEEN_BIT_MODES
    largest = int(np.asarray(stored.image).max()) if is_deep_gray else stored.largest_of_16_bits
    return DecodedImage(pixels, (*stored.remarks, *remarks), largest, stored.orientation)


def decode_gray_values(data: bytes, max_pixels: int = MAX_PIXELS) -> GrayValues | None:
    """Gray values of more than 8 bits as they are stored, and the window that :func:`decode_image` applies to them.

    Args:
        data: a file that :func:`decode_image` reads.
        max_pixels: as there.

    Returns:
        None if the image has colours or at most 8 bits.
    """
    if is_dicom(data):
        return dicom_gray_values(data, max_pixels)
    image = _shown(data, max_pixels, place="").image
    if image.mode not in SIXTEEN_BIT_MODES:
        return None
    return GrayValues(np.asarray(image).astype(np.float32), (0.0, 65535.0))


def decode_upright(data: bytes, max_pixels: int = MAX_PIXELS, place: str = "") -> Image.Image:
    """As :func:`decode_image`, but in a mode that holds what is stored, such as the labels of a mask.

    Colours of more than 8 bits are rounded to 8.

    Raises:
        UnreadableImageError: as :func:`read_image`, but not for values that are not gray levels.
    """
    return decode_stored(data, max_pixels, place).image


def _shown(data: bytes, max_pixels: int, place: str) -> StoredImage:
    """As :func:`decode_stored`, for an image that is to be shown or scored."""
    stored = decode_stored(data, max_pixels, place)
    if stored.not_gray:
        raise UnreadableImageError(stored.not_gray.problem, place, stored.not_gray.remedy)
    return stored


def decode_stored(data: bytes, max_pixels: int = MAX_PIXELS, place: str = "") -> StoredImage:
    """As :func:`decode_upright`, with remarks and the EXIF orientation by which the image was turned.

    Raises:
        UnreadableImageError: as :func:`decode_upright`.
    """
    if not data:
        raise UnreadableImageError("the file is empty (0 bytes)", place, "copy it again, or remove it")
    name = format_of(data[:HEAD_BYTES])
    if name not in READERS:
        problem, remedy = not_read(name)
        raise UnreadableImageError(problem, place, remedy)
    try:
        stored = READERS[name](data, max_pixels)
        stored.image.load()
        stored = replace(stored, orientation=exif_orientation(stored.image))
        ImageOps.exif_transpose(stored.image, in_place=True)
        return stored
    except UserError as error:
        raise UnreadableImageError(error.problem, place, error.remedy) from error
    except UnidentifiedImageError as error:
        remedy = "if another program opens it, save it there as PNG; if none does, copy it again"
        raise UnreadableImageError(f"a {name} file of a kind that is not read, or damaged", place, remedy) from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("the image is too large to be decoded safely", place, "cut it into tiles") from error
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        is_truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        reason = "truncated" if is_truncated else str(error) or type(error).__name__
        problem = f"the image cannot be decoded: {reason} (file of {len(data):,} bytes)"
        raise UnreadableImageError(problem, place, "copy it again, or remove it") from error


def _read_dicom(data: bytes, max_pixels: int) -> StoredImage:
    dicom = read_dicom(data, max_pixels)
    return StoredImage(Image.fromarray(dicom.pixels), dicom.remarks)


def _read_with_pillow(data: bytes, max_pixels: int) -> StoredImage:
    image = open_with_pillow(data, max_pixels)
    return StoredImage(image, remarks_on_frames(image))


READERS: dict[str, Callable[[bytes, int], StoredImage]] = {
    "PNG": read_png,
    "JPEG": read_jpeg,
    "BMP": _read_with_pillow,
    "TIFF": read_tiff,
    "WebP": _read_with_pillow,
    "PGM/PPM": _read_with_pillow,
    "DICOM": _read_dicom,
}
