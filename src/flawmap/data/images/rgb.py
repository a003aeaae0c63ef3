"""Images and arrays of any mode as uint8 RGB: bit depth and transparency."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from flawmap.data.images.stored import SIXTEEN_BIT_MODES
from flawmap.errors import UserError

SIXTEEN_TO_EIGHT_BIT = 257  # 65535 / 255: a fixed scale, never stretched per image, so that scores stay comparable
ALL_TRANSPARENT = "every pixel is transparent: the colours are read as if none were"


def to_rgb(image: Image.Image | NDArray) -> NDArray[np.uint8]:
    """A PIL image or an array as uint8 RGB (height, width, 3).

    Args:
        image: a PIL image of any mode; or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or
            floats in [0, 1]. A fourth channel is alpha: colours are shown over black, unless alpha is 0 everywhere.

    Raises:
        UserError: an array of another shape or type, or with values outside the range.
    """
    if isinstance(image, Image.Image):
        return upright_to_rgb(ImageOps.exif_transpose(image))[0]
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise UserError(f"an array of shape {pixels.shape} is not an image", "", _remedy_for(pixels.shape))
    if pixels.dtype != np.uint8:
        pixels = to_eight_bits(pixels)
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    return _over_black(pixels)[0] if pixels.shape[2] == 4 else np.ascontiguousarray(pixels)


def upright_to_rgb(image: Image.Image) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """As :func:`to_rgb`, for an image that is upright already, with remarks.

    Raises:
        UserError: values outside the range.
    """
    if image.mode in (*SIXTEEN_BIT_MODES, "F"):
        return to_rgb(np.asarray(image)), ()
    if image.mode in ("La", "RGBa"):  # colours are already multiplied by alpha, which shows them over black
        values = np.asarray(image)[..., :-1]
        return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3))), ()
    if image.has_transparency_data:  # an alpha channel, or one colour or palette entry that is transparent
        return _over_black(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB")), ()


def to_eight_bits(pixels: NDArray) -> NDArray[np.uint8]:
    """16-bit integers, floats in [0, 1] and booleans to 8 bits, on a fixed scale, in the same shape.

    Raises:
        UserError: another type, or values outside the range.
    """
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise UserError("the image holds values that are not finite (NaN or infinity)", "", "replace these pixels")
        if pixels.min() < 0 or pixels.max() > 1:
            problem = f"a float image has values from {pixels.min():.4g} to {pixels.max():.4g}, expected 0 to 1"
            raise UserError(problem, "", "scale it to [0, 1], or save it with 8 or 16 bits")
        return np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype.kind in "ui" and pixels.min() >= 0 and pixels.max() <= 65535:
        return sixteen_to_eight_bits(pixels)
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    raise UserError(f"values of type {pixels.dtype} beyond 16 bits", "", "save the image with 8 or 16 bits")


def sixteen_to_eight_bits(pixels: NDArray) -> NDArray[np.uint8]:
    """Integers in [0, 65535] divided by 257 and rounded."""
    return ((pixels.astype(np.uint32) + SIXTEEN_TO_EIGHT_BIT // 2) // SIXTEEN_TO_EIGHT_BIT).astype(np.uint8)


def _over_black(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Colours times alpha, in rounded integer arithmetic: a transparent pixel may hold any colour.

    Alpha of 0 everywhere is none: programs that do not know alpha leave the fourth byte of a pixel at 0.
    """
    if not rgba[..., 3].any():
        return np.ascontiguousarray(rgba[..., :3]), (ALL_TRANSPARENT,)
    colours, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colours * alpha + 127) // 255).astype(np.uint8), ()


def _remedy_for(shape: tuple[int, ...]) -> str:
    """How to give the images of an array whose shape is not that of one."""
    remedy = "give (H, W), (H, W, 3) or (H, W, 4)"
    if 0 in shape:
        return remedy
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return f"{remedy}: array.transpose(1, 2, 0) puts the channels last"
    if len(shape) == 4 and shape[3] in (1, 3, 4):
        return f"{remedy}; of several images a list: list(array)"
    if len(shape) == 4 and shape[1] in (1, 3, 4):
        return f"{remedy}; of several images a list: list(array.transpose(0, 2, 3, 1))"
    return remedy
