"""How a TIFF file becomes an image: its number types, channels, polarity and alpha.

Pillow knows the common combinations of number types and channels only. It inverts some that are stored with 0 as white
and not others, and wraps or refuses the rest. So it reads few bits, palettes, CMYK, YCbCr, L*a*b*, JPEG and fax here;
of gray and RGB in whole bytes, :mod:`flawmap.data.images.tiff_numbers` gives the numbers, and this their meaning.
"""

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from flawmap.data.images import tiff_pages as tags
from flawmap.data.images.jpeg import read_jpeg
from flawmap.data.images.rgb import to_eight_bits
from flawmap.data.images.stored import StoredImage, check_size, open_with_pillow
from flawmap.data.images.tiff_bytes import JPEG, compression_of, layout_of, stored_pieces
from flawmap.data.images.tiff_numbers import (
    are_read,
    bits_per_channel,
    in_words,
    num_channels,
    num_planes,
    read_numbers,
)
from flawmap.data.images.tiff_pages import Page, choose_page, read_pages, with_first_page
from flawmap.errors import UserError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
UNSPECIFIED, PREMULTIPLIED, ALPHA = 0, 1, 2  # meanings of an extra channel
MODES = {
    (2, ALPHA): "LA",
    (2, PREMULTIPLIED): "La",
    (3, UNSPECIFIED): "RGB",
    (4, ALPHA): "RGBA",
    (4, PREMULTIPLIED): "RGBa",
}
REMEDY = "save it as gray or RGB with 8 or 16 bits per channel"


def read_tiff(data: bytes, max_pixels: int) -> StoredImage:
    """Decode the largest page of a TIFF file.

    Raises:
        UserError: numbers or channels of a kind that is not read, or too many pixels.
        OSError: the file is damaged.
        Exception: whatever else Pillow raises for a damaged file.
    """
    page, remarks = choose_page(*read_pages(data))
    check_size(page.width, page.height, max_pixels)
    if _photometric(page) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) and are_read(page):
        return _from_numbers(page, remarks)
    try:
        image = open_with_pillow(with_first_page(page), max_pixels)
    except UnidentifiedImageError as error:
        raise _not_read(page) from error
    if compression_of(page) == JPEG:
        remarks += _check_jpeg(page, max_pixels)
    return StoredImage(image, remarks)


def _check_jpeg(page: Page, max_pixels: int) -> tuple[str, ...]:
    """libtiff does not say what is missing in its JPEG pieces either; gives remarks.

    Raises:
        UserError: rows are missing.
    """
    tables = bytes(page.numbers(tags.JPEG_TABLES, ()))
    remarks: set[str] = set()
    for plane in range(num_planes(page)):
        for piece in stored_pieces(page, layout_of(page, 8), plane):
            file = tables[:-2] + bytes(piece[2:]) if tables else bytes(piece)  # without the end and the start marker
            with suppress(UnidentifiedImageError):  # channels that only a TIFF can have
                remarks |= set(read_jpeg(file, max_pixels).remarks)
    return tuple(remarks)


def _from_numbers(page: Page, remarks: tuple[str, ...]) -> StoredImage:
    """Gray or RGB, with alpha if the file declares it."""
    num_colours = 3 if _photometric(page) == RGB else 1
    extra = _meaning_of_extra_channel(page, num_channels(page) - num_colours)
    numbers = read_numbers(page)  # (h, w, c)
    not_gray = _why_not_gray(numbers, page)
    if not_gray and numbers.shape[2] > 1:
        raise not_gray
    values = _on_scale(numbers, page)
    if _photometric(page) == WHITE_IS_ZERO and not not_gray:
        values[..., 0] = (1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max) - values[..., 0]
    largest = int(values[..., :num_colours].max()) if values.dtype == np.uint16 else None
    image = _as_image(values[..., :num_colours] if extra == UNSPECIFIED else values[..., : num_colours + 1], extra)
    image.format = "TIFF"
    image.getexif()[ExifTags.Base.Orientation] = page.number(tags.ORIENTATION, 1)
    return StoredImage(image, remarks, largest, not_gray)


def _meaning_of_extra_channel(page: Page, count: int) -> int:
    """Of the first channel beside gray or RGB; one that the file does not declare as alpha is not.

    Raises:
        UserError: channels that may be colours of another kind.
    """
    declared = page.numbers(tags.EXTRA_SAMPLES, (UNSPECIFIED,))
    meaning = declared[0] if declared[0] in (PREMULTIPLIED, ALPHA) else UNSPECIFIED
    is_rgb = _photometric(page) == RGB
    if count == 0 or (count == 1 and (is_rgb or meaning != UNSPECIFIED)) or (is_rgb and count == len(declared)):
        return meaning if count else UNSPECIFIED
    raise _not_read(page)


def _why_not_gray(numbers: NDArray, page: Page) -> UserError | None:
    """What to say of integers of which nobody can tell which are black and white.

    Programs that do not know 16 bits write such values with 32. Values up to 255, though, may be those of 8 bits.
    """
    if numbers.dtype.kind == "f" or numbers.dtype in (np.uint8, np.uint16):
        return None
    lowest, highest = int(numbers.min()), int(numbers.max())
    is_known = lowest >= 0 and _photometric(page) != WHITE_IS_ZERO
    if numbers.dtype.itemsize > 2:
        is_known = is_known and (255 < highest <= 65535 or highest == 0)
    if is_known:
        return None
    problem = f"which values are black and white is not known: {in_words(page)} from {lowest:,} to {highest:,}"
    return UserError(problem, "", f"{REMEDY}, as unsigned integers")


def _on_scale(numbers: NDArray, page: Page) -> NDArray:
    """Numbers of any type (h, w, c) as uint8, as uint16 with 65535 as white, as float32, or else as int32.

    Raises:
        UserError: they are larger than that.
    """
    if numbers.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinity is refused later
            return numbers.astype(np.float32)
    if bits_per_channel(page) == 12:
        return ((numbers.astype(np.uint32) * 65535 + 2047) // 4095).astype(np.uint16)
    if numbers.dtype in (np.uint8, np.uint16):
        return numbers
    lowest, highest = int(numbers.min()), int(numbers.max())
    if lowest >= 0 and highest <= 65535:
        return numbers.astype(np.uint8 if numbers.dtype.itemsize == 1 else np.uint16)
    if lowest >= -(2**31) and highest < 2**31:
        return numbers.astype(np.int32)
    raise UserError(f"values from {lowest:,} to {highest:,} are too large: {in_words(page)}", "", REMEDY)


def _as_image(channels: NDArray, extra: int) -> Image.Image:
    """Gray or RGB (h, w, c) as a Pillow image; colours and alpha are rounded to 8 bits."""
    if channels.shape[2] == 1:
        return Image.fromarray(np.ascontiguousarray(channels[..., 0]))
    eight_bits = channels if channels.dtype == np.uint8 else to_eight_bits(channels)
    height, width, count = channels.shape
    return Image.frombytes(MODES[count, extra], (width, height), np.ascontiguousarray(eight_bits).tobytes())


def _photometric(page: Page) -> int:
    """What 0 means; some programs do not say it."""
    return page.number(tags.PHOTOMETRIC, BLACK_IS_ZERO if num_channels(page) < 3 else RGB)


def _not_read(page: Page) -> UserError:
    kind = f"compression {page.number(tags.COMPRESSION, 1)}, photometric {_photometric(page)}"
    return UserError(f"a TIFF of this kind is not read: {in_words(page)}, {kind}", "", REMEDY)
