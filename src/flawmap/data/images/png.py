"""How a PNG file becomes an image: checksums, 16-bit colours and transparent colours, which Pillow does not read."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.rgb import ALL_TRANSPARENT, sixteen_to_eight_bits
from flawmap.data.images.stored import StoredImage, open_with_pillow, remarks_on_frames
from flawmap.errors import UserError

SIGNATURE_BYTES = 8
BITS_AT, COLOUR_TYPE_AT = 24, 25  # in the header, which is always the first chunk
GRAY, RGB, GRAY_ALPHA, RGB_ALPHA = 0, 2, 4, 6
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"tRNS")


def read_png(data: bytes, max_pixels: int) -> StoredImage:
    """Decode a PNG file; of several frames the first.

    Raises:
        UserError: a checksum is wrong, or there are too many pixels.
        Exception: whatever Pillow raises for a damaged file.
    """
    _check_sums(data)
    image = open_with_pillow(data, max_pixels)
    bits, colour_type = data[BITS_AT], data[COLOUR_TYPE_AT]
    transparent = image.info.get("transparency")
    if bits == 16 and colour_type in (RGB, GRAY_ALPHA, RGB_ALPHA):
        return _deep_colours(data, image, colour_type, max_pixels)
    if bits == 16 and colour_type == GRAY and transparent is not None:
        return _deep_gray(image, transparent)
    if bits < 8 and colour_type == GRAY and transparent is not None and transparent < 2**bits:
        image.info["transparency"] = transparent * (255 // (2**bits - 1))  # Pillow scales the pixels only
    return StoredImage(image, remarks_on_frames(image))


def _check_sums(data: bytes) -> None:
    """Pillow skips the checksums of pixels, so that a flipped bit near the end of a file would go unnoticed."""
    at = SIGNATURE_BYTES
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return  # Pillow says so if pixels are missing
        if (
            kind in PIXEL_CHUNKS
            and zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]
        ):
            problem = f"the file is damaged: the checksum of its chunk {kind.decode()} at byte {at:,} is wrong"
            raise UserError(problem, "", "copy it again, or remove it")
        at = end + 4


def _deep_gray(image: Image.Image, transparent: int) -> StoredImage:
    """16-bit gray with one transparent value, which is shown over black as all transparency is."""
    values = np.asarray(image).astype(np.uint16)
    is_transparent = values == transparent
    remarks = (ALL_TRANSPARENT,) if is_transparent.all() else ()
    shown = values if remarks else np.where(is_transparent, 0, values).astype(np.uint16)
    return StoredImage(_oriented_as(image, shown), remarks)


def _deep_colours(data: bytes, image: Image.Image, colour_type: int, max_pixels: int) -> StoredImage:
    """16-bit colours, or gray with alpha, rounded to 8 bits."""
    if colour_type == GRAY_ALPHA:  # the four bytes of each pixel as if they were four channels
        samples = _unpacked(data, "RGBA", max_pixels).view(">u2")  # (h, w, 2)
    else:
        kind = "RGB" if colour_type == RGB else "RGBA"
        upper, lower = (_unpacked(data, f"{kind};16{order}", max_pixels) for order in "BL")
        samples = upper.astype(np.uint16) << 8 | lower  # (h, w, 3 or 4)
    num_colours = 1 if colour_type == GRAY_ALPHA else 3
    eight_bits = sixteen_to_eight_bits(samples)
    if (transparent := image.info.get("transparency")) is not None:
        alpha = np.where((samples == np.array(transparent)).all(axis=2, keepdims=True), 0, 255).astype(np.uint8)
        eight_bits = np.concatenate([eight_bits, alpha], axis=2)
    return StoredImage(_oriented_as(image, eight_bits), (), int(samples[..., :num_colours].max()))


def _unpacked(data: bytes, layout: str, max_pixels: int) -> NDArray[np.uint8]:
    """The pixels as Pillow unpacks them in a layout of bytes of its own; ";16B" is the upper byte, ";16L" the lower."""
    image = open_with_pillow(data, max_pixels)
    image.tile = [(*tile[:3], layout) for tile in image.tile]  # pyright: ignore[reportAttributeAccessIssue]
    return np.asarray(image)


def _oriented_as(image: Image.Image, pixels: NDArray) -> Image.Image:
    oriented = Image.fromarray(pixels)
    oriented.format = image.format
    oriented.getexif().update(image.getexif())
    return oriented
