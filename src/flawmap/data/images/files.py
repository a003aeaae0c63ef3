"""Image files in: any common format becomes uint8 RGB, or a clear error. Files are only ever read."""

import contextlib
import io
import threading
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from flawmap.data.images.dicom import GrayValues, dicom_gray_values, is_dicom, read_dicom
from flawmap.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")  # by content, whatever the file is called; and DICOM, by its own reader
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".dcm")
MAX_PIXELS = 170_000_000  # a 13,000 x 13,000 px image; more is more likely a decompression bomb than a photograph
MAX_FILE_BYTES = 1_500_000_000  # of MAX_PIXELS in 16-bit colours, with some room
LYING = 5  # EXIF orientations from here on exchange width and height
SIXTEEN_TO_EIGHT_BIT = 257  # 65535 / 255: one fixed scale, never stretched per image, so that scores stay comparable
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
WARNING_FILTERS = threading.Lock()  # they belong to the whole process: two threads must not exchange them at once


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as uint8 RGB (height, width, 3) in [0, 255].

    EXIF rotation is applied. Gray is repeated, CMYK and palettes are converted, transparent pixels are shown over
    black, 16-bit gray values are divided by 257 and rounded (of 16-bit colours Pillow gives the upper byte), floats
    are taken to lie in [0, 1]. The first frame counts. DICOM is windowed (:mod:`flawmap.data.images.dicom`).

    Raises:
        UserError: the file is missing, empty, truncated, too large or no image of a known format.
    """
    image = _decoded(Path(path))
    try:
        return _upright_to_rgb(image)
    except UserError as error:
        raise UserError(error.problem, str(path), error.remedy) from error


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """As :func:`read_image`, from the bytes of a file, for example an upload.

    Args:
        data: of the whole file.
        max_pixels: more than these are refused before they are decoded.

    Raises:
        UserError: as :func:`read_image`; it names no place.
    """
    return _upright_to_rgb(_decoded_bytes(data, "", max_pixels))


def decode_gray_values(data: bytes, max_pixels: int = MAX_PIXELS) -> GrayValues | None:
    """Gray values of more than 8 bits as they are stored, and the window that :func:`decode_image` gives them.

    Args:
        data: of a file that :func:`decode_image` reads.
        max_pixels: as there.

    Returns:
        None where the image has colours or no more than 8 bits.
    """
    if is_dicom(data):
        return dicom_gray_values(data, max_pixels)
    image = _decoded_bytes(data, "", max_pixels)
    if image.mode not in SIXTEEN_BIT_MODES:
        return None
    return GrayValues(np.asarray(image).astype(np.float32), (0.0, 65535.0))


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read a ground-truth mask as bool (height, width): every non-zero pixel or palette index is anomalous.

    In a JPEG file those above half are: its compression scatters small values around each edge.

    Raises:
        UserError: as :func:`read_image`.
    """
    image = _decoded(Path(path))
    highest_normal = 127 if image.format in ("JPEG", "MPO") else 0
    if image.mode in ("CMYK", "YCbCr", "LAB"):  # black is not zero there
        image = image.convert("RGB")
    values = np.asarray(image)
    if values.ndim == 3:
        values = (values[..., :-1] if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") else values).max(axis=2)
    return values > highest_normal


def image_size_px(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright image, from its header alone where that says it.

    Raises:
        UserError: as :func:`read_image`.
    """
    data = _bytes_of(Path(path))
    if not is_dicom(data):
        with contextlib.suppress(Exception):  # whatever is wrong is said where the image is decoded
            image = _opened(data)
            width, height = image.size
            return (height, width) if image.getexif().get(ExifTags.Base.Orientation, 1) >= LYING else (width, height)
    return _decoded_bytes(data, str(path), MAX_PIXELS).size


def to_rgb(image: Image.Image | NDArray) -> NDArray[np.uint8]:
    """A PIL image or an array as uint8 RGB (height, width, 3).

    Args:
        image: a PIL image of any mode; or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or
            floats in [0, 1].

    Raises:
        UserError: an array of another shape or type, or numbers that are not finite.
    """
    if isinstance(image, Image.Image):
        return _upright_to_rgb(ImageOps.exif_transpose(image))
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise UserError(f"an array of shape {pixels.shape} is no image", "", "give (H, W), (H, W, 3) or (H, W, 4)")
    if pixels.dtype != np.uint8:
        return _deep_to_rgb(pixels)
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    return _over_black(pixels) if pixels.shape[2] == 4 else np.ascontiguousarray(pixels)


def _upright_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in (*SIXTEEN_BIT_MODES, "F"):
        return _deep_to_rgb(np.asarray(image))
    if image.mode in ("La", "RGBa"):  # colours already multiplied by alpha: shown over black as they are
        values = np.asarray(image)[..., :-1]
        return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))
    if image.has_transparency_data:  # an alpha channel, or one colour or palette entry that is transparent
        return _over_black(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _over_black(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Transparent pixels hide whatever colour they carry: shown over black, in rounded integer arithmetic."""
    colours, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colours * alpha + 127) // 255).astype(np.uint8)


def _deep_to_rgb(pixels: NDArray) -> NDArray[np.uint8]:
    """16-bit integers and floats to 8 bits on a fixed scale."""
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise UserError("the image holds values that are not finite (NaN or infinity)", "", "replace these pixels")
        if pixels.min() < 0 or pixels.max() > 1:
            raise UserError(
                f"a float image has values from {pixels.min():.4g} to {pixels.max():.4g}, expected 0 to 1",
                "",
                "scale it to [0, 1], or save it with 8 or 16 bits",
            )
        gray_or_rgb = np.rint(pixels * 255).astype(np.uint8)
    elif pixels.dtype.kind in "ui" and pixels.min() >= 0 and pixels.max() <= 65535:
        gray_or_rgb = ((pixels.astype(np.uint32) + SIXTEEN_TO_EIGHT_BIT // 2) // SIXTEEN_TO_EIGHT_BIT).astype(np.uint8)
    elif pixels.dtype == bool:
        gray_or_rgb = pixels.astype(np.uint8) * 255
    else:
        raise UserError(f"values of type {pixels.dtype} beyond 16 bits", "", "save the image with 8 or 16 bits")
    return to_rgb(gray_or_rgb)


def _decoded(path: Path) -> Image.Image:
    """The upright image; whatever goes wrong becomes a UserError that names the file."""
    return _decoded_bytes(_bytes_of(path), str(path), MAX_PIXELS)


def _bytes_of(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UserError(f"the file has {size:,} bytes, more than any picture that is read", str(path), "remove it")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror or error}", str(path), "check the path") from error


def _decoded_bytes(data: bytes, place: str, max_pixels: int) -> Image.Image:
    if not data:
        raise UserError("the file is empty (0 bytes)", place, "remove it")
    try:
        image = Image.fromarray(read_dicom(data, max_pixels)) if is_dicom(data) else _opened(data)
        width, height = image.size
        if width * height > max_pixels:
            raise UserError(f"{width} x {height} px is more than {max_pixels:,} pixels", place, "cut it into tiles")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except UserError as error:
        raise UserError(error.problem, place, error.remedy) from error
    except UnidentifiedImageError as error:
        known = ", ".join((*FORMATS, "DICOM"))
        raise UserError(f"not an image ({known} are read)", place, "remove it") from error
    except Image.DecompressionBombError as error:
        raise UserError("the image is too large to be decoded safely", place, "cut it into tiles") from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise almost anything
        truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        reason = "truncated" if truncated else str(error) or type(error).__name__
        raise UserError(
            f"the image cannot be decoded: {reason} (file of {len(data):,} bytes)",
            place,
            "copy it again, or remove it",
        ) from error


def _opened(data: bytes) -> Image.Image:
    """The image with its header read; Pillow's own limit of pixels only warns, ours is checked by the caller."""
    with WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=FORMATS)
