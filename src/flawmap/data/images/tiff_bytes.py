"""The plain bytes of a TIFF page: its strips and tiles without their compression.

Pillow's libtiff undoes compressions that Python does not know, on a page that is declared to hold plain bytes. It stops
when it has enough rows, so that it does not see a wrong checksum after them: Python does.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images import tiff_pages as tags
from flawmap.data.images.stored import open_with_pillow
from flawmap.data.images.tiff_pages import Page, with_own_page

UNCOMPRESSED, LZW, JPEG, PACK_BITS, LZMA, ZSTANDARD = 1, 5, 7, 32773, 34925, 50000
DEFLATE = (8, 32946)
LOSSLESS = (UNCOMPRESSED, LZW, *DEFLATE, PACK_BITS, LZMA, ZSTANDARD)
BLACK_IS_ZERO = 1


@dataclass(frozen=True)
class Layout:
    """How a plane is divided into pieces: strips, or tiles. A strip is as wide as the page.

    Attributes:
        are_tiles: whether the pieces are tiles.
        across: pieces beside each other.
        down: pieces below each other.
        width: of a piece, in pixels.
        height: of a piece; the last strip may be shorter, and the last tiles hang over.
        row_bytes: bytes in a row of a piece.
    """

    are_tiles: bool
    across: int
    down: int
    width: int
    height: int
    row_bytes: int


def compression_of(page: Page) -> int:
    """The number of the compression."""
    return page.number(tags.COMPRESSION, UNCOMPRESSED)


def layout_of(page: Page, bits_per_pixel: int) -> Layout:
    """How each plane of a page is divided.

    Raises:
        OSError: not in a way that is possible.
    """
    are_tiles = tags.TILE_OFFSETS in page.tags
    width = page.number(tags.TILE_WIDTH) if are_tiles else page.width
    height = page.number(tags.TILE_HEIGHT) if are_tiles else page.number(tags.ROWS_PER_STRIP, page.height)
    if width <= 0 or height <= 0:
        raise OSError("pieces without pixels")
    height = height if are_tiles else min(height, page.height)
    across, down = math.ceil(page.width / width), math.ceil(page.height / height)
    return Layout(are_tiles, across, down, width, height, row_bytes=math.ceil(width * bits_per_pixel / 8))


def stored_pieces(page: Page, layout: Layout, plane: int = 0) -> list[memoryview]:
    """The strips or tiles of a plane as they are stored, row by row.

    They go up to the end of the file where no length is given, and where none is needed because they are not
    compressed: some programs write wrong ones.

    Raises:
        OSError: one is missing.
    """
    offsets, lengths = _places(page, layout, plane)
    if lengths is None or compression_of(page) == UNCOMPRESSED:
        return [memoryview(page.data)[offset:] for offset in offsets]
    return [memoryview(page.data)[start : start + length] for start, length in zip(offsets, lengths, strict=True)]


def plain_bytes(page: Page, layout: Layout, plane: int) -> NDArray[np.uint8]:
    """The bytes of one plane without their compression, (h, pieces across, bytes in a row of a piece).

    Raises:
        OSError: bytes are missing, or a checksum is wrong.
        Exception: whatever else Pillow raises for a damaged file.
    """
    compression = compression_of(page)
    if page.number(tags.FILL_ORDER, 1) != 1 or compression not in (UNCOMPRESSED, *DEFLATE):
        return _by_pillow(page, layout, plane)
    most = layout.height * layout.row_bytes
    pieces: list[memoryview | bytes] = []
    for number, piece in enumerate(stored_pieces(page, layout, plane)):
        rows = layout.height if layout.are_tiles else min(layout.height, page.height - number * layout.height)
        plain = _inflated(piece, most) if compression in DEFLATE else piece
        if len(plain) < rows * layout.row_bytes:
            raise OSError("truncated")
        pieces.append(plain[: rows * layout.row_bytes])
    joined = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), np.uint8)
    by_piece = joined.reshape(layout.down, layout.across, -1, layout.row_bytes) if layout.are_tiles else joined
    in_rows = by_piece.swapaxes(1, 2) if layout.are_tiles else by_piece
    return in_rows.reshape(-1, layout.across, layout.row_bytes)[: page.height]


def _inflated(piece: memoryview, most: int) -> bytes:
    """At most so many bytes, if their checksum is right."""
    decompressor = zlib.decompressobj()
    plain = decompressor.decompress(piece, most)
    decompressor.decompress(decompressor.unconsumed_tail, 1)  # the checksum comes after the last byte
    if not decompressor.eof:
        raise OSError("truncated, or longer than its rows")
    return plain


def _by_pillow(page: Page, layout: Layout, plane: int) -> NDArray[np.uint8]:
    """As :func:`plain_bytes`."""
    offsets, lengths = _places(page, layout, plane)
    shape = (page.height, layout.across, layout.row_bytes)
    own = {
        tags.WIDTH: (layout.across * layout.row_bytes,),
        tags.HEIGHT: (page.height,),
        tags.BITS: (8,),
        tags.COMPRESSION: (compression_of(page),),
        tags.PHOTOMETRIC: (BLACK_IS_ZERO,),
        tags.FILL_ORDER: (page.number(tags.FILL_ORDER, 1),),
        tags.CHANNELS: (1,),
    }
    if layout.are_tiles:
        own |= {tags.TILE_WIDTH: (layout.row_bytes,), tags.TILE_HEIGHT: (layout.height,), tags.TILE_OFFSETS: offsets}
    else:
        own |= {tags.ROWS_PER_STRIP: (layout.height,), tags.STRIP_OFFSETS: offsets}
    if lengths is not None:
        own[tags.TILE_BYTES if layout.are_tiles else tags.STRIP_BYTES] = lengths
    return np.asarray(open_with_pillow(with_own_page(page.data, own), math.prod(shape))).reshape(shape)


def _places(page: Page, layout: Layout, plane: int) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Where the pieces of a plane begin, and how long they are if the file says so."""
    tag_pair = (tags.TILE_OFFSETS, tags.TILE_BYTES) if layout.are_tiles else (tags.STRIP_OFFSETS, tags.STRIP_BYTES)
    count = layout.across * layout.down
    own = slice(plane * count, (plane + 1) * count)
    offsets = page.numbers(tag_pair[0])[own]
    lengths = page.numbers(tag_pair[1])[own] if tag_pair[1] in page.tags else None
    if len(offsets) < count or (lengths is not None and (len(lengths) < count or 0 in lengths)):
        raise OSError("truncated, or some pieces have been left out")
    return offsets, lengths
