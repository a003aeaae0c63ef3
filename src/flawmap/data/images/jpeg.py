"""How a JPEG file becomes an image, and whether all of it is there.

libjpeg fills with gray what is missing, and Pillow does not pass its warnings on. So this looks at where the compressed
data ends, before or after the last row, and counts the parts that can be counted.
"""

import io
import math
import re
import struct
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from flawmap.data.images.stored import StoredImage, open_with_pillow
from flawmap.errors import UserError

SEQUENTIAL_KINDS = (0xC0, 0xC1)  # with one scan, libjpeg decodes row by row, and needs no end
FRAME_KINDS = tuple(kind for kind in range(0xC0, 0xD0) if kind not in (0xC4, 0xC8, 0xCC))
END, START_OF_SCAN, RESTART_INTERVAL = 0xD9, 0xDA, 0xDD
MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # among compressed data, FF 00 is a value and D0 to D7 are restarts
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
BITS_PER_COEFFICIENT = 8  # more than any scan leaves out
SURPLUS_BYTES = 16  # cameras leave a few bytes after the last row
PADDINGS = (bytes(8), b"\x55" * 8, b"\xaa" * 8, b"\xff\0" * 8)  # libjpeg reads ahead by so many bytes
SURPLUS = "data is left over after the last row: the file may be damaged, and parts of the image wrong"


@dataclass
class _Headers:
    """What the headers say.

    Attributes:
        kind: the second byte of the frame's marker.
        sampling: of each component, horizontal and vertical.
        scans: where their compressed data begins and ends.
        bits_missing: by component, how many of the low bits of each of its 64 coefficients no scan has held.
    """

    kind: int = 0
    precision: int = 8
    height: int = 0
    width: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    restart_interval: int = 0
    scans: list[tuple[int, int]] = field(default_factory=list)
    bits_missing: dict[int, list[int]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return not any(any(bits) for bits in self.bits_missing.values())


def read_jpeg(data: bytes, max_pixels: int) -> StoredImage:
    """Decode a JPEG file; of several pictures the first.

    Raises:
        UserError: rows or scans are missing, or there are too many pixels.
        Exception: whatever Pillow raises for a damaged file.
    """
    headers = _read_headers(data)
    if headers.precision > 8:
        raise UserError(f"JPEG with {headers.precision} bits is not read", "", "save it as PNG or TIFF with 16 bits")
    if headers.kind in SEQUENTIAL_KINDS and len(headers.scans) == 1 and headers.is_complete:
        return _read_rows(data, headers, max_pixels)
    image = open_with_pillow(data, max_pixels)
    if headers.scans and not headers.is_complete:
        raise _incomplete("scans")
    return StoredImage(image, _remarks_on_pictures(image))


def _read_rows(data: bytes, headers: _Headers, max_pixels: int) -> StoredImage:
    """Decode the only scan, and see that it holds all rows and no more."""
    ((start, end),) = headers.scans
    if headers.restart_interval and not _has_all_restarts(data[start:end], headers):
        raise _incomplete("parts")
    nearly_all = max(start, end - SURPLUS_BYTES)
    image, has_surplus = _decoded(data[:end] + PADDINGS[0], nearly_all, max_pixels)
    if not MARKER.match(data, end):  # the file ends without a marker: are the last bits those of the image?
        for padding in PADDINGS[1:]:
            again, _ = _decoded(data[:end] + padding, nearly_all, max_pixels)
            if not np.array_equal(np.asarray(again), np.asarray(image)):
                raise _incomplete("rows")
    remarks = _remarks_on_pictures(image)
    return StoredImage(image, (*remarks, SURPLUS) if has_surplus else remarks)


def _decoded(data: bytes, nearly_all: int, max_pixels: int) -> tuple[Image.Image, bool]:
    """The image, and whether its last row was complete before the end of the data.

    The data ends without a marker, because libjpeg would fill up rows with gray when it meets one too early.
    """
    file = _FileInTwoPieces(data, nearly_all)
    image = open_with_pillow(file, max_pixels)
    try:
        image.load()
    except OSError as error:  # Pillow asked for more
        raise _incomplete("rows") from error
    return image, not file.was_needed


class _FileInTwoPieces(io.BytesIO):
    """A file of which no reading crosses a place, so that it shows whether what follows it was needed."""

    def __init__(self, data: bytes, place: int) -> None:
        super().__init__(data)
        self._place, self.was_needed = place, False

    def read(self, size: int | None = -1) -> bytes:
        """As any file does, but not beyond the place if it begins before it."""
        at = self.tell()
        self.was_needed = self.was_needed or at >= self._place
        if at >= self._place:
            return super().read(size)
        return super().read(self._place - at if size is None or size < 0 else min(size, self._place - at))


def _has_all_restarts(scan: bytes, headers: _Headers) -> bool:
    """Whether between each two intervals there is a restart marker, in order."""
    factors = tuple(headers.sampling.values()) if len(headers.sampling) > 1 else ((1, 1),)
    across, down = (8 * max(both) for both in zip(*factors, strict=True))
    num_units = math.ceil(headers.width / across) * math.ceil(headers.height / down)
    expected = [0xD0 + number % 8 for number in range(math.ceil(num_units / headers.restart_interval) - 1)]
    return [marker[0] for marker in RESTART.findall(scan)] == expected


def _remarks_on_pictures(image: Image.Image) -> tuple[str, ...]:
    """A camera with several lenses or exposures may write several pictures into one file; previews do not count."""
    entries = getattr(image, "mpinfo", {}).get(0xB002, ())
    is_part = [str(entry["Attribute"]["MPType"]).startswith("Multi-Frame") for entry in entries]
    return (f"{len(entries)} pictures; the first is read",) if any(is_part) else ()


def _incomplete(what: str) -> UserError:
    problem = f"the image cannot be decoded: truncated or damaged, {what} are missing"
    return UserError(problem, "", "copy it again, or remove it")


def _read_headers(data: bytes) -> _Headers:
    """Ends where the file is not as the standard says; Pillow then says what is wrong."""
    headers, at = _Headers(), 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = struct.unpack_from(">BH", data, at + 1)
        if marker == 0xFF:  # any number of them may stand before a marker
            at += 1
            continue
        if marker == END:
            break
        segment, at = data[at + 4 : at + 2 + length], at + 2 + length
        if marker in FRAME_KINDS and len(segment) >= 6:
            _read_frame(marker, segment, headers)
        elif marker == RESTART_INTERVAL:
            headers.restart_interval = int.from_bytes(segment[:2], "big")
        elif marker == START_OF_SCAN:
            _read_scan(segment, headers)
            marker_after = MARKER.search(data, at)
            headers.scans.append((at, marker_after.start() if marker_after else max(at, _end_of_values(data))))
            at = headers.scans[-1][1]
    return headers


def _read_frame(kind: int, segment: bytes, headers: _Headers) -> None:
    headers.kind = kind
    headers.precision, headers.height, headers.width, _ = struct.unpack_from(">BHHB", segment)
    for component, factors in zip(segment[6::3], segment[7::3], strict=False):
        headers.sampling[component] = (factors >> 4, factors & 15)
        headers.bits_missing[component] = [BITS_PER_COEFFICIENT] * 64


def _read_scan(segment: bytes, headers: _Headers) -> None:
    if len(segment) < 4 or len(segment) != 4 + 2 * segment[0]:
        return
    first, last, bits = segment[-3:]
    for component in segment[1:-3:2]:
        if component in headers.bits_missing and last < 64:
            headers.bits_missing[component][first : last + 1] = [bits & 15] * (last + 1 - first)


def _end_of_values(data: bytes) -> int:
    """Where a file without an end marker ends: before half a marker, or zeros that only fill up a block of a disk."""
    end = min(len(data), len(data.rstrip(b"\0")) + len(PADDINGS[0]))
    return end - data[:end].endswith(b"\xff")
