"""The numbers of a TIFF page, of any type that has whole bytes, from its plain bytes.

Done here are the order of bytes, the number type, differences between neighbours, tiles, and planes of one channel.
"""

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images import tiff_pages as tags
from flawmap.data.images.tiff_bytes import LOSSLESS, PACK_BITS, UNCOMPRESSED, compression_of, layout_of, plain_bytes
from flawmap.data.images.tiff_pages import Page

DIFFERENCES, FLOAT_DIFFERENCES = 2, 3
SEPARATE_PLANES = 2
NUMBER_TYPES = {1: "u", 2: "i", 3: "f", 4: "u"}  # numpy's letters; 4: not said
NAMES = {"u": "unsigned integers", "i": "signed integers", "f": "floats", "?": "complex or several numbers"}
WIDTHS = {"u": (8, 12, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}  # 12: three bytes hold two numbers


def num_channels(page: Page) -> int:
    """Including alpha."""
    return page.number(tags.CHANNELS, 1)


def num_planes(page: Page) -> int:
    """Planes of one channel each, or one of all."""
    return num_channels(page) if page.number(tags.PLANAR, 1) == SEPARATE_PLANES else 1


def bits_per_channel(page: Page) -> int:
    """0 if channels differ."""
    bits = set(page.numbers(tags.BITS, (1,)))
    return bits.pop() if len(bits) == 1 else 0


def in_words(page: Page) -> str:
    """The number type and the channels."""
    bits, count = bits_per_channel(page), num_channels(page)
    width = f"{bits}-bit " if bits else ""
    return f"{count} {'channel' if count == 1 else 'channels'} of {width}{NAMES[_letter(page)]}"


def are_read(page: Page) -> bool:
    """Whether :func:`read_numbers` reads this page."""
    return compression_of(page) in LOSSLESS and bits_per_channel(page) in WIDTHS.get(_letter(page), ())


def read_numbers(page: Page) -> NDArray:
    """The numbers as they are stored, in this machine's byte order, (h, w, c); 12 bits as uint16.

    Raises:
        OSError: the file is damaged.
        Exception: whatever else Pillow raises for a damaged file.
    """
    count = num_channels(page) // num_planes(page)
    planes = [_plane(page, number, count) for number in range(num_planes(page))]
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


def _letter(page: Page) -> str:
    types = set(page.numbers(tags.SAMPLE_FORMAT, (1,)))
    return NUMBER_TYPES.get(types.pop(), "?") if len(types) == 1 else "?"


def _plane(page: Page, number: int, count: int) -> NDArray:
    """The ``count`` channels of one plane, (h, w, count)."""
    bits, letter = bits_per_channel(page), _letter(page)
    layout = layout_of(page, count * bits)
    data = plain_bytes(page, layout, number)  # (h, tiles, bytes of a row)
    has_differences = compression_of(page) not in (UNCOMPRESSED, PACK_BITS)
    predictor = page.number(tags.PREDICTOR, 1) if has_differences else 1
    if bits == 12:
        numbers = _unpack_12_bits(data)[..., : layout.width * count]
    elif predictor == FLOAT_DIFFERENCES:
        numbers = _undo_float_differences(data, bits // 8, count).view(f">{letter}{bits // 8}")
    else:
        numbers = data.view(f"{page.order}{letter}{bits // 8}")
    numbers = numbers.astype(numbers.dtype.newbyteorder("=")).reshape(page.height, -1, layout.width, count)
    if predictor == DIFFERENCES:
        numbers = numbers.cumsum(axis=2, dtype=numbers.dtype)
    return numbers.reshape(page.height, -1, count)[:, : page.width]


def _undo_float_differences(data: NDArray[np.uint8], num_bytes: int, count: int) -> NDArray[np.uint8]:
    """Big-endian numbers from differences of bytes (h, tiles, n), of which the highest of all numbers come first."""
    by_channel = data.reshape(*data.shape[:2], -1, count)
    by_significance = by_channel.cumsum(axis=2, dtype=np.uint8).reshape(*data.shape[:2], num_bytes, -1)
    return np.ascontiguousarray(by_significance.swapaxes(2, 3)).reshape(data.shape)


def _unpack_12_bits(data: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Two numbers from each three bytes of the last axis, the higher bits first."""
    padded = np.pad(data, [(0, 0), (0, 0), (0, -data.shape[-1] % 3)]).astype(np.uint16)
    first, second, third = (padded[..., start::3] for start in range(3))
    pairs = np.stack([first << 4 | second >> 4, (second & 15) << 8 | third], axis=-1)
    return pairs.reshape(*data.shape[:-1], -1).astype(np.uint16)
