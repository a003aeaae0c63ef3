"""The numbers of a TIFF page, of any type that has whole bytes.

Pillow's libtiff undoes the compression of a page that is declared to hold plain bytes. The rest is done here: order of
bytes, number type, differences between neighbours, tiles, and planes of one channel each.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images import tiff_pages as tags
from flawmap.data.images.stored import open_with_pillow
from flawmap.data.images.tiff_pages import Page, with_own_page

UNCOMPRESSED, PACK_BITS = 1, 32773
PREDICTING = (5, 8, 32946, 34925, 50000)  # LZW, deflate under two numbers, LZMA, Zstandard
LOSSLESS = (UNCOMPRESSED, PACK_BITS, *PREDICTING)
DIFFERENCES, FLOAT_DIFFERENCES = 2, 3
SEPARATE_PLANES = 2
BLACK_IS_ZERO = 1
NUMBER_TYPES = {1: "u", 2: "i", 3: "f", 4: "u"}  # numpy's letters; 4: not said
NAMES = {"u": "unsigned integers", "i": "signed integers", "f": "floats", "?": "complex or several numbers"}
WIDTHS = {"u": (8, 12, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}  # 12: three bytes hold two numbers


def num_channels(page: Page) -> int:
    """Including alpha."""
    return page.number(tags.CHANNELS, 1)


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
    is_lossless = page.number(tags.COMPRESSION, UNCOMPRESSED) in LOSSLESS
    return is_lossless and bits_per_channel(page) in WIDTHS.get(_letter(page), ())


def read_numbers(page: Page) -> NDArray:
    """The numbers as they are stored, in this machine's byte order, (h, w, c); 12 bits as uint16.

    Raises:
        OSError: the file is damaged.
        Exception: whatever else Pillow raises for a damaged file.
    """
    count = num_channels(page)
    if count > 1 and page.number(tags.PLANAR, 1) == SEPARATE_PLANES:
        return np.concatenate([_plane(page, number, 1) for number in range(count)], axis=2)
    return _plane(page, 0, count)


def _letter(page: Page) -> str:
    types = set(page.numbers(tags.SAMPLE_FORMAT, (1,)))
    return NUMBER_TYPES.get(types.pop(), "?") if len(types) == 1 else "?"


def _plane(page: Page, number: int, count: int) -> NDArray:
    """The ``count`` channels of one plane, (h, w, count)."""
    layout = _layout(page, count)
    data = _plain_bytes(page, number, layout)  # (h, tiles, bytes of a row)
    bits, letter = bits_per_channel(page), _letter(page)
    predictor = page.number(tags.PREDICTOR, 1) if page.number(tags.COMPRESSION, 1) in PREDICTING else 1
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


# ---- bytes


@dataclass(frozen=True)
class _Layout:
    """How a plane is divided. A strip is a tile as wide as the page.

    Attributes:
        are_tiles: whether the file calls them so.
        across: tiles beside each other.
        width: of a tile, in pixels.
        height: of a tile; the last may be cut off.
        row_bytes: bytes in a row of a tile.
        count: tiles of one plane.
    """

    are_tiles: bool
    across: int
    width: int
    height: int
    row_bytes: int
    count: int


def _layout(page: Page, num_channels: int) -> _Layout:
    are_tiles = tags.TILE_OFFSETS in page.tags
    width = page.number(tags.TILE_WIDTH) if are_tiles else page.width
    height = (
        page.number(tags.TILE_HEIGHT) if are_tiles else min(page.number(tags.ROWS_PER_STRIP, page.height), page.height)
    )
    if width <= 0 or height <= 0:
        raise OSError("tiles without pixels")
    height = height if are_tiles else min(height, page.height)
    across = math.ceil(page.width / width)
    row_bytes = math.ceil(width * num_channels * bits_per_channel(page) / 8)
    return _Layout(are_tiles, across, width, height, row_bytes, across * math.ceil(page.height / height))


def _plain_bytes(page: Page, plane: int, layout: _Layout) -> NDArray[np.uint8]:
    """The bytes of one plane without their compression, (h, tiles beside each other, bytes in a row of a tile)."""
    offsets_tag, bytes_tag = (
        (tags.TILE_OFFSETS, tags.TILE_BYTES) if layout.are_tiles else (tags.STRIP_OFFSETS, tags.STRIP_BYTES)
    )
    own_tiles = slice(plane * layout.count, (plane + 1) * layout.count)
    offsets = page.numbers(offsets_tag)[own_tiles]
    if len(offsets) < layout.count:
        raise OSError("truncated")
    shape = (page.height, layout.across, layout.row_bytes)
    compression, fill_order = page.number(tags.COMPRESSION, UNCOMPRESSED), page.number(tags.FILL_ORDER, 1)
    if compression == UNCOMPRESSED and fill_order == 1 and not layout.are_tiles:
        return _joined(page.data, offsets, layout.height * layout.row_bytes, math.prod(shape)).reshape(shape)
    own = {
        tags.WIDTH: (layout.across * layout.row_bytes,),
        tags.HEIGHT: (page.height,),
        tags.BITS: (8,),
        tags.COMPRESSION: (compression,),
        tags.PHOTOMETRIC: (BLACK_IS_ZERO,),
        tags.FILL_ORDER: (fill_order,),
        tags.CHANNELS: (1,),
        offsets_tag: offsets,
    }
    if layout.are_tiles:
        own |= {tags.TILE_WIDTH: (layout.row_bytes,), tags.TILE_HEIGHT: (layout.height,)}
    else:
        own[tags.ROWS_PER_STRIP] = (layout.height,)
    if bytes_tag in page.tags:
        own[bytes_tag] = page.numbers(bytes_tag)[own_tiles]
    return np.asarray(open_with_pillow(with_own_page(page.data, own), math.prod(shape))).reshape(shape)


def _joined(data: bytes, offsets: tuple[int, ...], strip_bytes: int, num_bytes: int) -> NDArray[np.uint8]:
    """Strips that are not compressed, one after the other; the last may be shorter."""
    ends = [min(strip_bytes, num_bytes - number * strip_bytes) for number in range(len(offsets))]
    strips = [memoryview(data)[offset : offset + length] for offset, length in zip(offsets, ends, strict=True)]
    joined = np.frombuffer(strips[0] if len(strips) == 1 else b"".join(strips), np.uint8)
    if len(joined) != num_bytes:
        raise OSError("truncated")
    return joined
