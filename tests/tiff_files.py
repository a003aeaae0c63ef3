"""TIFF files of every kind that the standard has and that few programs write, byte by byte."""

import struct
import zlib
from dataclasses import dataclass, field
from itertools import product

import numpy as np

KINDS = {"u": 1, "i": 2, "f": 3, "c": 6}


@dataclass(frozen=True)
class TiffPage:
    """One page, from an array (H, W) or (H, W, C) of any number type.

    Attributes:
        photometric: 0 = 0 is white, 1 = 0 is black, 2 = RGB; None leaves the tag out.
        deflate: compress.
        predictor: 2 = differences of numbers, 3 = of bytes of floats.
        tile_px: width and height of tiles; None for strips.
        rows_per_strip: None for one strip.
        planar: a plane for each channel.
        tags: others, by number: type (3 = 16 bits, 4 = 32 bits) and values.
    """

    array: np.ndarray
    photometric: int | None = 1
    deflate: bool = False
    predictor: int = 1
    tile_px: tuple[int, int] | None = None
    rows_per_strip: int | None = None
    planar: bool = False
    tags: dict[int, tuple[int, list[int]]] = field(default_factory=dict)


def tiff(*pages: TiffPage, order: str = "<", big: bool = False, last_offset: int = 0) -> bytes:
    """A file of pages; ``big`` is BigTIFF, and ``last_offset`` where the last page says that the next one is."""
    letter, pointer_bytes = ("Q", 8) if big else ("I", 4)
    file = (
        struct.pack(f"{order}2sHHHQ", _mark(order), 43, 8, 0, 0)
        if big
        else struct.pack(f"{order}2sHI", _mark(order), 42, 0)
    )
    pointer_at = len(file) - pointer_bytes
    for page in pages:
        offsets = []
        parts = _parts(page, order)
        for part in parts:
            offsets.append(len(file))
            file += part + bytes(len(part) % 2)
        tags = _tags(page, offsets, [len(part) for part in parts])
        file = file[:pointer_at] + struct.pack(order + letter, len(file)) + file[pointer_at + pointer_bytes :]
        entry_bytes = 12 + pointer_bytes - 4 + (4 if big else 0)
        values_at = len(file) + (8 if big else 2) + entry_bytes * len(tags) + pointer_bytes
        directory, values = struct.pack(order + ("Q" if big else "H"), len(tags)), b""
        for tag, (kind, numbers) in sorted(tags.items()):
            packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
            directory += struct.pack(f"{order}HH{letter}", tag, kind, len(numbers))
            if len(packed) <= pointer_bytes:
                directory += packed.ljust(pointer_bytes, b"\0")
            else:
                directory += struct.pack(order + letter, values_at + len(values))
                values += packed
        pointer_at = len(file) + len(directory)
        file += directory + struct.pack(order + letter, last_offset) + values
    return file


def _mark(order: str) -> bytes:
    return b"II" if order == "<" else b"MM"


def _tags(page: TiffPage, offsets: list[int], lengths: list[int]) -> dict[int, tuple[int, list[int]]]:
    height, width, channels = _three_axes(page.array).shape
    bits, kind = page.array.dtype.itemsize * 8, KINDS[page.array.dtype.kind]
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [8 if page.deflate else 1]),
        277: (3, [channels]),
        284: (3, [2 if page.planar else 1]),
        339: (3, [kind] * channels),
    }
    if page.photometric is not None:
        tags[262] = (3, [page.photometric])
    if page.predictor != 1:
        tags[317] = (3, [page.predictor])
    if page.tile_px:
        tags |= {322: (3, [page.tile_px[0]]), 323: (3, [page.tile_px[1]]), 324: (4, offsets), 325: (4, lengths)}
    else:
        tags |= {278: (3, [page.rows_per_strip or height]), 273: (4, offsets), 279: (4, lengths)}
    return tags | page.tags


def _parts(page: TiffPage, order: str) -> list[bytes]:
    array = _three_axes(page.array)
    planes = np.split(array, array.shape[2], axis=2) if page.planar else [array]
    return [part for plane in planes for part in _parts_of_plane(plane, page, order)]


def _parts_of_plane(plane: np.ndarray, page: TiffPage, order: str) -> list[bytes]:
    height, width = plane.shape[:2]
    if not page.tile_px:
        rows = page.rows_per_strip or height
        return [_packed(plane[top : top + rows], page, order) for top in range(0, height, rows)]
    across, down = page.tile_px
    padded = np.pad(plane, [(0, -height % down), (0, -width % across), (0, 0)], mode="edge")
    corners = product(range(0, height, down), range(0, width, across))
    return [_packed(padded[top : top + down, left : left + across], page, order) for top, left in corners]


def _packed(part: np.ndarray, page: TiffPage, order: str) -> bytes:
    if page.predictor == 2:
        part = np.concatenate([part[:, :1], part[:, 1:] - part[:, :-1]], axis=1)
    data = part.astype(part.dtype.newbyteorder(order)).tobytes()
    if page.predictor == 3:
        height, width, channels = part.shape
        highest_first = np.frombuffer(part.astype(part.dtype.newbyteorder(">")).tobytes(), np.uint8)
        rows = highest_first.reshape(height, width * channels, -1).swapaxes(1, 2).reshape(height, -1)
        differences = rows.copy()
        differences[:, channels:] -= rows[:, :-channels]
        data = differences.tobytes()
    return zlib.compress(data) if page.deflate else data


def _three_axes(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 3 else array[..., None]
