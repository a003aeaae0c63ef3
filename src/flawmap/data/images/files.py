"""How an image file becomes pixels: any common format as uint8 RGB, or an error that names the file."""

import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from flawmap.data.images.dicom import GrayValues, dicom_gray_values, is_dicom, read_dicom
from flawmap.data.images.formats import HEAD_BYTES, READ_FORMATS, format_of, not_read
from flawmap.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")  # Pillow's names of READ_FORMATS without DICOM
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".dcm"),
)
MAX_PIXELS = 170_000_000  # 13,000 x 13,000; a larger file is more likely a decompression bomb than a photograph
MAX_FILE_BYTES = 1_500_000_000  # MAX_PIXELS of 16-bit RGB, with some room
SIXTEEN_TO_EIGHT_BIT = 257  # 65535 / 255: a fixed scale, never stretched per image, so that scores stay comparable
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
WARNING_FILTERS = threading.Lock()  # the filters belong to the whole process: only one thread may replace them


class UnreadableImageError(UserError):
    """A file that is not an image, or not one that can be decoded."""


@dataclass(frozen=True)
class DecodedImage:
    """The pixels of a file, uint8 RGB (height, width, 3), and what a person should know of how they were read."""

    pixels: NDArray[np.uint8]
    remarks: tuple[str, ...] = ()


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as uint8 RGB (height, width, 3) in [0, 255].

    EXIF rotation is applied. Gray is repeated, CMYK and palettes are converted, and transparent pixels are shown over
    black. 16-bit gray values are divided by 257 and rounded (Pillow gives the upper byte of 16-bit colours); floats
    must lie in [0, 1]. Of several frames the first is read. DICOM is windowed (:mod:`flawmap.data.images.dicom`).

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, too large, or not an image in a known format.
    """
    return decode_image(read_file(path), place=str(path))


def read_file(path: str | Path) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImageError: the file cannot be read, or is too large to be an image.
    """
    try:
        if (size := Path(path).stat().st_size) > MAX_FILE_BYTES:
            problem = f"the file has {size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}"
            raise UnreadableImageError(problem, str(path), "remove it, or cut it into tiles")
        return Path(path).read_bytes()
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
    image = decode_upright(data, max_pixels, place)
    try:
        return DecodedImage(_upright_to_rgb(image))
    except UserError as error:
        raise UnreadableImageError(error.problem, place, error.remedy) from error


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
    image = decode_upright(data, max_pixels)
    if image.mode not in SIXTEEN_BIT_MODES:
        return None
    return GrayValues(np.asarray(image).astype(np.float32), (0.0, 65535.0))


def decode_upright(data: bytes, max_pixels: int = MAX_PIXELS, place: str = "") -> Image.Image:
    """As :func:`decode_image`, but in the mode of the file.

    Raises:
        UnreadableImageError: as :func:`read_image`.
    """
    if not data:
        raise UnreadableImageError("the file is empty (0 bytes)", place, "remove it")
    name = format_of(data[:HEAD_BYTES])
    if name not in READ_FORMATS:
        problem, remedy = not_read(name)
        raise UnreadableImageError(problem, place, remedy)
    try:
        image = Image.fromarray(read_dicom(data, max_pixels)) if is_dicom(data) else _opened(data)
        width, height = image.size
        if width * height > max_pixels:
            raise UserError(f"{width} x {height} px is more than {max_pixels:,} pixels", place, "cut it into tiles")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except UserError as error:
        raise UnreadableImageError(error.problem, place, error.remedy) from error
    except UnidentifiedImageError as error:
        problem = f"the {name} image cannot be decoded (file of {len(data):,} bytes)"
        raise UnreadableImageError(problem, place, "copy it again, or save it as PNG") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("the image is too large to be decoded safely", place, "cut it into tiles") from error
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        is_truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        reason = "truncated" if is_truncated else str(error) or type(error).__name__
        problem = f"the image cannot be decoded: {reason} (file of {len(data):,} bytes)"
        raise UnreadableImageError(problem, place, "copy it again, or remove it") from error


def to_rgb(image: Image.Image | NDArray) -> NDArray[np.uint8]:
    """A PIL image or an array as uint8 RGB (height, width, 3).

    Args:
        image: a PIL image of any mode; or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or
            floats in [0, 1].

    Raises:
        UserError: an array of another shape or type, or with values outside the range.
    """
    if isinstance(image, Image.Image):
        return _upright_to_rgb(ImageOps.exif_transpose(image))
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise UserError(f"an array of shape {pixels.shape} is not an image", "", "give (H, W), (H, W, 3) or (H, W, 4)")
    if pixels.dtype != np.uint8:
        return _deep_to_rgb(pixels)
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    return _over_black(pixels) if pixels.shape[2] == 4 else np.ascontiguousarray(pixels)


def _upright_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in (*SIXTEEN_BIT_MODES, "F"):
        return _deep_to_rgb(np.asarray(image))
    if image.mode in ("La", "RGBa"):  # colours are already multiplied by alpha, which shows them over black
        values = np.asarray(image)[..., :-1]
        return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))
    if image.has_transparency_data:  # an alpha channel, or one colour or palette entry that is transparent
        return _over_black(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _over_black(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours times alpha, in rounded integer arithmetic: a transparent pixel may hold any colour."""
    colours, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colours * alpha + 127) // 255).astype(np.uint8)


def _deep_to_rgb(pixels: NDArray) -> NDArray[np.uint8]:
    """16-bit integers, floats in [0, 1] and booleans to 8 bits, on a fixed scale."""
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise UserError("the image holds values that are not finite (NaN or infinity)", "", "replace these pixels")
        if pixels.min() < 0 or pixels.max() > 1:
            problem = f"a float image has values from {pixels.min():.4g} to {pixels.max():.4g}, expected 0 to 1"
            raise UserError(problem, "", "scale it to [0, 1], or save it with 8 or 16 bits")
        gray_or_rgb = np.rint(pixels * 255).astype(np.uint8)
    elif pixels.dtype.kind in "ui" and pixels.min() >= 0 and pixels.max() <= 65535:
        gray_or_rgb = ((pixels.astype(np.uint32) + SIXTEEN_TO_EIGHT_BIT // 2) // SIXTEEN_TO_EIGHT_BIT).astype(np.uint8)
    elif pixels.dtype == bool:
        gray_or_rgb = pixels.astype(np.uint8) * 255
    else:
        raise UserError(f"values of type {pixels.dtype} beyond 16 bits", "", "save the image with 8 or 16 bits")
    return to_rgb(gray_or_rgb)


def _opened(data: bytes) -> Image.Image:
    """The image with only its header read. Pillow's warning about many pixels is off: the caller checks a limit."""
    with WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=FORMATS)
