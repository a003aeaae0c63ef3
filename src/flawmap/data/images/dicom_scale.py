"""From stored DICOM values to gray levels: rescaling, the window or lookup table, inversion (PS3.3 C.11.1, C.11.2).

The scale is the file's and never stretched to the image's own extremes, so that scores stay comparable.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.dicom_fields import PixelFields, items, numbers
from flawmap.errors import UserError


@dataclass(frozen=True)
class Table:
    """A lookup table: ``values`` (n,) for the inputs from ``first`` on; ``white`` is the highest value it can have."""

    values: NDArray[np.float64]
    first: int
    white: float

    def look_up(self, inputs: NDArray) -> NDArray[np.float64]:
        """The values of inputs of any shape; inputs outside the table get its first or its last value."""
        indices = np.rint(inputs).clip(self.first, self.first + len(self.values) - 1)
        return self.values[indices.astype(np.int64) - self.first]


@dataclass(frozen=True)
class Window:
    """A window as the file gives it; ``function`` is LINEAR, LINEAR_EXACT or SIGMOID."""

    centre: float
    width: float
    function: str

    @property
    def ends(self) -> tuple[float, float]:
        """The values shown as black and as white; for a sigmoid, where its tangent in the centre reaches them."""
        if self.function == "LINEAR" and self.width >= 1:  # PS3.3 C.11.2.1.2.1
            centre, width = self.centre - 0.5, self.width - 1
        else:
            centre, width = self.centre, self.width
        return centre - width / 2, centre + width / 2

    def shares(self, values: NDArray) -> NDArray[np.float64]:
        """How bright values are shown, from 0 (black) to 1 (white)."""
        if self.function == "SIGMOID":
            return 1 / (1 + np.exp(-4 * ((values - self.centre) / self.width).clip(-100, 100)))
        black, white = self.ends
        if black == white:  # a width of 1 is a threshold
            return (values > black).astype(np.float64)
        return ((values - black) / (white - black)).clip(0, 1)


@dataclass(frozen=True)
class GrayScale:
    """What stored values mean, and how bright they are shown.

    Attributes:
        slope, intercept: of rescaling.
        modality: a table instead of them.
        voi: the window or table that says what is black and what is white; None if the file has none.
        low, high: what the lowest and the highest stored number mean; they are black and white without ``voi``.
        is_inverted: whether low values are shown bright.
    """

    slope: float
    intercept: float
    modality: Table | None
    voi: Window | Table | None
    low: float
    high: float
    is_inverted: bool

    @property
    def ends(self) -> tuple[float, float]:
        """The values that are shown as black and as white before inversion; of a table, its first and last input."""
        if isinstance(self.voi, Window):
            black, white = self.voi.ends
            return (black, white) if white > black else (black, black + 0.5)  # a threshold between integers
        if self.voi is not None:
            return float(self.voi.first), float(self.voi.first + len(self.voi.values) - 1)
        return self.low, self.high

    def rescaled(self, stored: NDArray) -> NDArray[np.float64]:
        """What stored values mean: Hounsfield units, for example."""
        if self.modality is not None:
            return self.modality.look_up(stored)
        return stored.astype(np.float64) * self.slope + self.intercept

    def levels(self, stored: NDArray) -> NDArray[np.uint8]:
        """Gray levels of stored values of any shape; 255 is white."""
        values = self.rescaled(stored)
        if isinstance(self.voi, Window):
            shares = self.voi.shares(values)
        elif self.voi is not None:
            shares = self.voi.look_up(values) / self.voi.white
        else:
            shares = ((values - self.low) / (self.high - self.low)).clip(0, 1)
        gray = np.rint(shares * 255).astype(np.uint8)
        return 255 - gray if self.is_inverted else gray


def gray_scale(dataset: Any, fields: PixelFields) -> tuple[GrayScale, PixelFields, tuple[str, ...]]:
    """The gray scale of the first frame, the fields as far as the window bears them out, and remarks.

    Functional groups of the frame come first, then those of all frames, then the fields of the file.

    Raises:
        UserError: a lookup table is damaged.
    """
    remarks: list[str] = []
    slope, intercept = _rescaling(dataset, remarks)
    modality = next((_table(item, dataset, fields.is_signed) for item in items(dataset, "ModalityLUTSequence")), None)
    may_be_negative = modality is None and (fields.is_signed or intercept < 0)
    voi = _voi(dataset, may_be_negative, remarks)
    if isinstance(voi, Window) and modality is None and not fields.is_float:
        fields = _borne_out(fields, ((voi.centre - intercept) / slope, (voi.ends[1] - intercept) / slope), remarks)
    if modality is not None:
        low, high = 0.0, modality.white
    else:
        ends = (0, 1) if fields.is_float else fields.value_range
        low, high = sorted(end * slope + intercept for end in ends)
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    is_inverted = fields.photometric == "MONOCHROME1" or shape == "INVERSE"
    return GrayScale(slope, intercept, modality, voi, low, high, is_inverted), fields, tuple(remarks)


def palette_colours(dataset: Any, stored: NDArray) -> NDArray[np.uint8]:
    """Stored indices (height, width) as RGB.

    Raises:
        UserError: the palette is missing or damaged.
    """
    if not dataset.get("RedPaletteColorLookupTableData"):
        from pydicom.pixels.processing import apply_color_lut  # expands palettes that are stored in segments

        if not dataset.get("SegmentedRedPaletteColorLookupTableData"):
            raise UserError("the image has no palette", "", "export it again from the program that wrote it")
        colours = apply_color_lut(stored, dataset)[..., :3]
        return (colours >> (8 * colours.dtype.itemsize - 8)).astype(np.uint8)
    tables = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = numbers(dataset, f"{colour}PaletteColorLookupTableDescriptor")
        data = dataset.get(f"{colour}PaletteColorLookupTableData")
        tables.append(_table_of(descriptor, data, dataset, bool(stored.min() < 0)))
    shift = 8 if max(table.values.max() for table in tables) > 255 else 0  # 8-bit entries may lie in 16-bit words
    return np.stack([table.look_up(stored).astype(np.uint16) >> shift for table in tables], -1).astype(np.uint8)


def _rescaling(dataset: Any, remarks: list[str]) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where they are missing or empty."""
    for fields in (*_functional_group(dataset, "PixelValueTransformationSequence"), dataset):
        slope, intercept = numbers(fields, "RescaleSlope")[:1], numbers(fields, "RescaleIntercept")[:1]
        if slope or intercept:
            if slope == (0.0,):
                remarks.append("RescaleSlope 0 is taken as 1")
                slope = ()
            return (slope or (1.0,))[0], (intercept or (0.0,))[0]
    return 1.0, 0.0


def _voi(dataset: Any, may_be_negative: bool, remarks: list[str]) -> Window | Table | None:
    """The first lookup table, else the first window with a width."""
    for fields in (*_functional_group(dataset, "FrameVOILUTSequence"), dataset):
        for item in items(fields, "VOILUTSequence"):
            if item.get("LUTData"):
                return _table(item, dataset, may_be_negative)
        centres, widths = numbers(fields, "WindowCenter"), numbers(fields, "WindowWidth")
        for centre, width in zip(centres, widths, strict=False):
            if width > 0:
                return Window(centre, width, _function(fields, remarks))
            remarks.append(f"a window of width {width:g} is left out")
    return None


def _function(fields: Any, remarks: list[str]) -> str:
    name = str(fields.get("VOILUTFunction") or "LINEAR").strip().upper()
    if name in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return name
    remarks.append(f"VOILUTFunction {name} is taken as LINEAR")
    return "LINEAR"


def _functional_group(dataset: Any, macro: str) -> list[Any]:
    """The items that hold for the first frame of an enhanced file: its own, and those of all frames (C.7.6.16)."""
    groups = [items(dataset, f"{whose}FunctionalGroupsSequence")[:1] for whose in ("PerFrame", "Shared")]
    return [item for group in groups for fields in group for item in items(fields, macro)[:1]]


def _borne_out(fields: PixelFields, window: tuple[float, float], remarks: list[str]) -> PixelFields:
    """Fields that say too few bits, or a sign, where the window's centre lies beyond what they can hold.

    Args:
        fields: as the file gives them.
        window: its centre and upper end, in stored units.
        remarks: to add to.
    """
    centre, top = window
    if centre <= fields.value_range[1]:
        return fields
    unsigned = replace(fields, is_signed=False)
    if centre <= unsigned.value_range[1]:
        remarks.append(f"the window's centre, {centre:g} as stored, is beyond signed values; they are read as unsigned")
        return unsigned
    bits = int(np.ceil(top)).bit_length()
    if fields.is_signed or bits > fields.bits_allocated or fields.high_bit != fields.bits_stored - 1:
        return fields
    remarks.append(f"BitsStored is {fields.bits_stored}, but the window goes up to {top:g}; {bits} bits are read")
    return replace(fields, bits_stored=bits, high_bit=bits - 1)


def _table(item: Any, dataset: Any, may_be_negative: bool) -> Table:
    return _table_of(numbers(item, "LUTDescriptor"), item.get("LUTData"), dataset, may_be_negative)


def _table_of(descriptor: tuple[float, ...], data: Any, dataset: Any, may_be_negative: bool) -> Table:
    """A lookup table of 8 or 16 bits an entry.

    pydicom's own functions wrap inputs above 255 round if the entries have 8 bits, and take 8 and 16 bits only.
    """
    damaged = UserError("a lookup table of the file is damaged", "", "export it again from the program that wrote it")
    if len(descriptor) != 3 or not data:
        raise damaged
    count, first, bits = (int(number) for number in descriptor)
    count = count or 1 << 16
    if isinstance(data, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        is_wide = len(data) >= 2 * count
        data = np.frombuffer(data[: count * (1 + is_wide)], f"{order}u2" if is_wide else "u1")
    elif bits == 8 and np.size(data) < count:  # two entries in a word
        data = np.asarray(data, "<u2").view("u1")
    values = np.atleast_1d(np.asarray(data, np.float64))[:count]
    if len(values) < count:
        raise damaged
    if may_be_negative and first > 32767:  # written as unsigned
        first -= 1 << 16
    bits = max(bits, int(values.max()).bit_length(), 1)
    return Table(values, first, float((1 << bits) - 1))
