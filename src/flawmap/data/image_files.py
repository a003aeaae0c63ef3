"""Image files in: any common format becomes uint8 RGB, or a clear error. Files are only ever read."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from flawmap.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")  # by content, whatever the file is called
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 200_000_000  # a 14,000 x 14,000 px image; more is more likely a decompression bomb than a photograph
SIXTEEN_TO_EIGHT_BIT = 257  # 65535 / 255: one fixed scale, never stretched per image, so that scores stay comparable


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as uint8 RGB (height, width, 3) in [0, 255].

    EXIF rotation is applied. Gray is repeated, CMYK and palettes are converted, transparent pixels are shown over
    black, 16-bit values are divided by 257, floats are taken to lie in [0, 1]. Of several frames the first counts.

    Raises:
        UserError: the file is missing, empty, truncated, too large or no image of a known format.
    """
    with _opened(Path(path)) as image:
        return to_rgb(image)


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read a ground-truth mask as bool (height, width): every non-zero pixel is anomalous.

    Raises:
        UserError: as :func:`read_image`.
    """
    with _opened(Path(path)) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode == "P":  # palette indices are labels here, not colours
            return np.asarray(image) > 0
        pixels = np.asarray(image.convert("RGBA") if image.mode in ("PA", "CMYK") else image)
    if pixels.ndim == 3:
        colours = pixels[..., : pixels.shape[2] - 1] if pixels.shape[2] in (2, 4) else pixels  # without alpha
        return np.asarray((colours > 0).any(axis=2))
    return pixels > 0


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels as :func:`read_image` would give them, from the header alone."""
    with _opened(Path(path)) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)


def to_rgb(image: Image.Image | NDArray) -> NDArray[np.uint8]:
    """A PIL image or an array as uint8 RGB (height, width, 3).

    Args:
        image: a PIL image of any mode; or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or
            floats in [0, 1].

    Raises:
        UserError: an array of another shape or type, or numbers that are not finite.
    """
    if isinstance(image, Image.Image):
        image = ImageOps.exif_transpose(image)
        if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
            return _deep_to_rgb(np.asarray(image))
        if image.mode in ("P", "LA", "PA", "RGBA", "La", "RGBa"):
            return _over_black(np.asarray(image.convert("RGBA")))
        return np.asarray(image.convert("RGB"))
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


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The decoded image; whatever goes wrong becomes a UserError that names the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror or error}", str(path), "check the path") from error
    if not data:
        raise UserError("the file is empty (0 bytes)", str(path), "remove it, or --skip-unreadable")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit only warns; ours is checked below
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UserError(
                        f"{width} x {height} px is more than {MAX_PIXELS:,} pixels", str(path), "cut it into tiles"
                    )
                image.load()
                yield image
    except UserError as error:
        raise error if error.place else UserError(error.problem, str(path), error.remedy) from error
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise UserError(f"not an image ({known} are read)", str(path), "remove it, or --skip-unreadable") from error
    except Image.DecompressionBombError as error:
        raise UserError("the image is too large to be decoded safely", str(path), "cut it into tiles") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:  # what Pillow's decoders raise
        reason = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else str(error)
        raise UserError(
            f"the image cannot be decoded: {reason} (file of {len(data):,} bytes)",
            str(path),
            "copy it again or remove it, or --skip-unreadable",
        ) from error
