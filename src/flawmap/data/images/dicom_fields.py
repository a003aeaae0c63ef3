"""The fields of a DICOM file that say how its pixels are stored (PS3.3 C.7.6.3), and what missing ones are taken as."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flawmap.errors import UserError

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PALETTE = "PALETTE COLOR"  # stored values are indices into a table of colours
GRAY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
ITEM = b"\xfe\xff\x00\xe0"  # how encapsulated (compressed) pixels begin, PS3.5 A.4
EXPORT_AGAIN = "export it again from the program that wrote it"


@dataclass(frozen=True)
class PixelFields:
    """How pixels are stored.

    Attributes:
        keyword: the field that holds the pixels.
        rows, columns: px.
        samples: 1, or 3 for colours.
        photometric: what the samples mean.
        bits_allocated: bits of a sample's container.
        bits_stored, high_bit: the bits in use, and the highest of them, counted from 0.
        is_signed: whether samples are in two's complement.
        planar: 1 if each colour is stored as a plane, 0 if pixel by pixel.
        frames: number of images in the file.
    """

    keyword: str
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    planar: int
    frames: int

    @property
    def is_float(self) -> bool:
        """Whether samples are floating-point numbers."""
        return self.keyword != "PixelData"

    @property
    def value_range(self) -> tuple[int, int]:
        """The lowest and the highest integer that the stored bits can hold."""
        lowest = -(1 << (self.bits_stored - 1)) if self.is_signed else 0
        return lowest, lowest + (1 << self.bits_stored) - 1


class _Filled:
    """Fields of a file, and words for those that are filled in because they are missing or cannot be."""

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.words: list[str] = []

    def taken_as(self, keyword: str, value: Any) -> Any:
        """A value for a field that is missing or cannot be."""
        self.words.append(f"{keyword} as {value}")
        return value

    def integer_or(self, keyword: str, value: int) -> int:
        """The file's number, or else this one."""
        found = integer(self.dataset, keyword)
        return self.taken_as(keyword, value) if found is None else found


def pixel_fields(dataset: Any) -> tuple[PixelFields, tuple[str, ...]]:
    """The fields, and a remark if some are missing or invalid that everyone would fill in the same way.

    Args:
        dataset: of pydicom, with one of :data:`PIXELS`.

    Raises:
        UserError: fields are missing that cannot be filled in, or their values are not read.
    """
    filled = _Filled(dataset)
    keyword = next(keyword for keyword in PIXELS if dataset.get(keyword))
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    if not rows or not columns or rows < 0 or columns < 0:
        raise UserError("the DICOM file does not give its size (Rows, Columns)", "", EXPORT_AGAIN)
    photometric = str(dataset.get("PhotometricInterpretation") or "").strip().upper()
    samples = filled.integer_or("SamplesPerPixel", 3 if photometric in COLOURS else 1)
    if not photometric:
        photometric = filled.taken_as("PhotometricInterpretation", "RGB" if samples == 3 else "MONOCHROME2")
    frames = max(integer(dataset, "NumberOfFrames") or 1, 1)
    if samples == 1 and photometric in COLOURS:
        if len(dataset.get(keyword)) >= 3 * rows * columns * frames:
            samples = filled.taken_as("SamplesPerPixel", 3)
        else:
            photometric = filled.taken_as("PhotometricInterpretation", "MONOCHROME2")
    if photometric not in (*GRAY, PALETTE, *COLOURS) or samples not in ((1,) if photometric == PALETTE else (1, 3)):
        raise UserError(f"DICOM pixels of {samples} samples as {photometric} are not read", "", "save it as RGB")
    is_float = keyword != "PixelData"
    if is_float:
        allocated = stored = 32 if keyword == "FloatPixelData" else 64
        high_bit = stored - 1
    else:
        allocated, stored, high_bit = _bits(filled, rows * columns * samples * frames)
    is_signed = not is_float and filled.integer_or("PixelRepresentation", 0) == 1 and stored > 1
    planar = int(samples == 3 and filled.integer_or("PlanarConfiguration", 0) == 1)
    fields = PixelFields(
        keyword, rows, columns, samples, photometric, allocated, stored, high_bit, is_signed, planar, frames
    )
    return fields, (f"fields are missing or invalid; taken: {', '.join(filled.words)}",) if filled.words else ()


def _bits(filled: _Filled, num_samples: int) -> tuple[int, int, int]:
    """Bits allocated, bits stored, and the highest bit of integers."""
    allocated = integer(filled.dataset, "BitsAllocated")
    if allocated is None:
        data = filled.dataset.get("PixelData")
        bits = 16 if data[:4] == ITEM else 8 * len(data) // num_samples
        allocated = filled.taken_as("BitsAllocated", bits // 8 * 8 or 1)
    if allocated not in (1, 8, 16, 32, 64):
        problem = f"DICOM pixels in containers of {allocated} bits (BitsAllocated) are not read"
        raise UserError(problem, "", "save it with 8 or 16 bits allocated")
    stored, high_bit = integer(filled.dataset, "BitsStored"), integer(filled.dataset, "HighBit")
    if stored is None or not 1 <= stored <= allocated:
        likely = high_bit + 1 if high_bit is not None and 0 <= high_bit < allocated else allocated
        stored = filled.taken_as("BitsStored", likely)
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return allocated, stored, high_bit


def numbers(dataset: Any, keyword: str) -> tuple[float, ...]:
    """A field's finite numbers, with a point or a comma before decimals; empty if it is missing, empty or none."""
    value = dataset.get(keyword)
    if value is None or isinstance(value, bytes):
        return ()
    parts = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    try:
        found = [float(part.replace(",", ".") if isinstance(part, str) else part) for part in parts]
    except (TypeError, ValueError):
        return ()
    return tuple(number for number in found if math.isfinite(number))


def integer(dataset: Any, keyword: str) -> int | None:
    """A field's first number as an integer; None if it has none."""
    found = numbers(dataset, keyword)
    return int(found[0]) if found else None


def items(dataset: Any, keyword: str) -> list[Any]:
    """The items of a sequence; empty if the field is missing or no sequence."""
    value = dataset.get(keyword)
    return [item for item in value if hasattr(item, "get")] if isinstance(value, Iterable) else []
