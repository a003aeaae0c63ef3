"""How a DICOM file becomes pixels: one frame, windowed as a viewer shows it. Needs the extra ``medical`` (pydicom).

Stored values become gray levels on a scale that the file fixes (:mod:`flawmap.data.images.dicom_scale`), never on the
image's own extremes: by its VOI lookup table or its window, or, without either, by the range of its bits. Low values
are inverted where the file says so, so that bright is always bright, and padding is always black.
"""

import io
import struct
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.dicom_fields import PALETTE, PIXELS, PixelFields, pixel_fields
from flawmap.data.images.dicom_frame import Frame, read_frame
from flawmap.data.images.dicom_scale import GrayScale, Window, gray_scale, palette_colours
from flawmap.data.images.stored import check_size
from flawmap.errors import UserError

MAGIC, MAGIC_AT = b"DICM", 128
HEADER_BYTES = 512  # what is_dicom looks at
VALUE_TYPES = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
LONG_TYPES = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # two reserved bytes, four of length
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax whose whole content is compressed, fields and all
DIRECTORY = b"1.2.840.10008.1.3.10"  # the class of a DICOMDIR
WITHOUT_PIXELS = {"SR": "Structured Report", "KO": "Key Object Selection", "PR": "Presentation State"}
FEW_LEVELS = 64  # of 256: two of the eight bits are unused
MOSTLY = 0.95


@dataclass(frozen=True)
class DicomImage:
    """The first frame, uint8 (height, width) or RGB (height, width, 3), and what is odd about how it was read."""

    pixels: NDArray[np.uint8]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class GrayValues:
    """Gray values of more than 8 bits before windowing.

    Attributes:
        values: (height, width).
        window: the values that the model sees as black and as white; the first is the larger one if the file shows
            high values dark.
    """

    values: NDArray[np.float32]
    window: tuple[float, float]


def is_dicom(data: bytes) -> bool:
    """Whether a file's content is DICOM, whatever the file is called.

    Args:
        data: the file, or its first 512 bytes.
    """
    if data[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC:
        return True
    data = data[:HEADER_BYTES].removeprefix(MAGIC)  # some programs leave out the preamble, or all before the fields
    return any(_begins_with_fields(data, *encoding) for encoding in (("<", True), ("<", False), (">", True)))


def read_dicom(data: bytes, max_pixels: int) -> DicomImage:
    """The first frame.

    Args:
        data: the file's content.
        max_pixels: larger images are refused before anything is decoded.

    Raises:
        UserError: pydicom or a decoder is not installed, the file holds no image, too large a one, or one of a kind
            that is not read.
        Exception: whatever pydicom and decoders raise for a damaged file.
    """
    dataset, fields, remarks = _opened(data, max_pixels)
    if fields.samples > 1 or fields.photometric == PALETTE:
        frame = read_frame(dataset, fields)
        if fields.photometric == PALETTE:
            return DicomImage(palette_colours(dataset, frame.stored), (*remarks, *frame.remarks))
        colours = (frame.stored >> max(fields.bits_stored - 8, 0)).astype(np.uint8)
        return DicomImage(np.ascontiguousarray(colours), (*remarks, *frame.remarks))
    scale, fields, scale_remarks = gray_scale(dataset, fields)
    frame = read_frame(dataset, fields)
    _refuse_unknown_scale(frame, fields, scale)
    if fields.is_float or fields.bits_stored > 16:
        gray = scale.levels(frame.stored)
    else:  # as a table of all values that there can be: images are large
        lowest, highest = fields.value_range
        gray = scale.levels(np.arange(lowest, highest + 1))[frame.stored.astype(np.int32) - lowest]
    if frame.is_padding is not None:
        gray[frame.is_padding] = 0
    content = _content_remark(gray, frame, scale)
    return DicomImage(gray, (*remarks, *scale_remarks, *frame.remarks, *content))


def dicom_gray_values(data: bytes, max_pixels: int) -> GrayValues | None:
    """The first frame before windowing, for a viewer; None if it has colours or at most 8 bits.

    For a lookup table or a sigmoid, the window holds their ends: between these, a linear window shows other grays.
    Padding has the value at the dark end of all.

    Raises:
        as :func:`read_dicom`.
    """
    dataset, fields, _ = _opened(data, max_pixels)
    if fields.samples > 1 or fields.bits_stored <= 8 or fields.photometric == PALETTE:
        return None
    scale, fields, _ = gray_scale(dataset, fields)
    frame = read_frame(dataset, fields)
    _refuse_unknown_scale(frame, fields, scale)
    values = scale.rescaled(frame.stored).astype(np.float32)
    black, white = reversed(scale.ends) if scale.is_inverted else scale.ends
    if frame.is_padding is not None:
        darkest = np.max if scale.is_inverted else np.min
        values[frame.is_padding] = darkest(values, initial=black, where=~frame.is_padding)
    return GrayValues(values, (black, white))


def dicom_patient(data: bytes) -> str | None:
    """Who is examined, as the number in the file has it; None if it has none.

    Args:
        data: a DICOM file that could be read.
    """
    fields = _pydicom().dcmread(
        io.BytesIO(data.removeprefix(MAGIC)), force=True, stop_before_pixels=True, specific_tags=["PatientID"]
    )
    return str(fields.get("PatientID") or "").strip() or None


def _begins_with_fields(data: bytes, order: str, is_explicit: bool) -> bool:
    """Whether bytes begin with at least three fields of a data set, in order, as far as they reach.

    The first must be of group 2 or 8, where every file begins. Implicit fields name no type, so their lengths are what
    speaks for them.
    """
    at, found, last = 0, 0, (0, 0)
    while found < 3:
        header = data[at : at + 12]
        if len(header) < 8:
            return False
        tag = struct.unpack_from(f"{order}HH", header)
        if tag <= last or (not found and (tag[0] not in (2, 8) or tag[1] > 0x18)) or tag[0] % 2:
            return False
        if not is_explicit:
            start, (length,) = 8, struct.unpack_from(f"{order}I", header, 4)
        elif header[4:6] not in VALUE_TYPES:
            return False
        elif header[4:6] not in LONG_TYPES:
            start, (length,) = 8, struct.unpack_from(f"{order}H", header, 6)
        elif len(header) < 12 or any(header[6:8]):
            return False
        else:
            start, (length,) = 12, struct.unpack_from(f"{order}I", header, 8)
        found, last, at = found + 1, tag, at + start + length
        if length % 2 or (at > len(data) and found < 3):
            return False
    return True


def _opened(data: bytes, max_pixels: int) -> tuple[Any, PixelFields, tuple[str, ...]]:
    """The file's fields, before any pixel is decoded."""
    if DIRECTORY in data[:1024]:
        raise UserError("a DICOMDIR, the list of a medium's files and no image", "", "move it to another folder")
    if DEFLATED in data:  # pydicom would inflate it to any size before a limit could be checked
        raise UserError("a deflated DICOM file is not read", "", "save it with its pixels compressed, not the file")
    pydicom = _pydicom()
    dataset = pydicom.dcmread(io.BytesIO(data.removeprefix(MAGIC)), force=True)
    if not any(dataset.get(keyword) for keyword in PIXELS):
        raise UserError(*_without_pixels(dataset))
    fields, remarks = pixel_fields(dataset)
    check_size(fields.columns, fields.rows, max_pixels)
    if fields.frames > 1:
        remarks = (f"{fields.frames} frames; the first is read", *remarks)
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        text = "writing is burnt into its image (BurnedInAnnotation): names in it are shown in pictures and reports"
        remarks = (*remarks, text)
    return dataset, fields, remarks


def _pydicom() -> Any:
    """pydicom, which is installed by an extra. Its warnings are silenced: what matters becomes an error or a remark."""
    is_known = "dl" in sys.modules
    if not is_known:  # GDCM looks for a module of Python 2, and takes any folder of that name for it
        sys.modules["dl"] = None  # type: ignore[assignment]
    try:
        import pydicom.pixels
    except ModuleNotFoundError as error:
        raise UserError("DICOM needs the package pydicom", "", 'pip install "pydicom>=3.0.1"') from error
    finally:
        if not is_known:
            sys.modules.pop("dl", None)
    import pydicom

    warnings.filterwarnings("ignore", module=r"pydicom\b")
    return pydicom


def _without_pixels(dataset: Any) -> tuple[str, str, str]:
    """Problem, place and remedy of a file that is no image, by what it is."""
    modality, kind = str(dataset.get("Modality") or ""), str(getattr(dataset.get("SOPClassUID"), "name", ""))
    name = WITHOUT_PIXELS.get(modality) or kind.replace(" Storage", "") or modality or "of unknown kind"
    if dataset.get("Rows"):
        return f"a DICOM file without its pixels ({name}): truncated or stripped", "", "copy it again, or remove it"
    return f"a DICOM file without an image ({name})", "", "move it to another folder"


def _refuse_unknown_scale(frame: Frame, fields: PixelFields, scale: GrayScale) -> None:
    """Floating-point values need a window unless they lie in [0, 1], as in other formats."""
    if not fields.is_float:
        return
    values = frame.stored if frame.is_padding is None else frame.stored[~frame.is_padding]
    if not np.isfinite(values).all():
        raise UserError("the image holds values that are not finite (NaN or infinity)", "", "replace these pixels")
    if scale.voi is None and values.size and (values.min() < 0 or values.max() > 1):
        problem = f"a DICOM image of floats from {values.min():.4g} to {values.max():.4g} has no window"
        raise UserError(problem, "", "scale it to [0, 1], or write the same window into all files")


def _content_remark(gray: NDArray[np.uint8], frame: Frame, scale: GrayScale) -> tuple[str, ...]:
    """That little is visible, with numbers and what to do; empty if there is nothing to say."""
    counts = np.array(Image.fromarray(gray).histogram())
    stored = frame.stored
    if frame.is_padding is not None:
        counts[0] -= np.count_nonzero(frame.is_padding)
        stored = stored[~frame.is_padding]
    if not stored.size:
        return ("all pixels are padding",)
    ends = scale.rescaled(np.array([stored.min(), stored.max()]))
    low, high = float(ends.min()), float(ends.max())
    if isinstance(scale.voi, Window):
        clipped = (counts[0] + counts[255]) / counts.sum()
        black, white = scale.voi.ends
        if clipped < MOSTLY or black <= low <= high <= white:
            return ()
        window = f"centre {scale.voi.centre:g}, width {scale.voi.width:g}"
        return (
            f"its window ({window}) makes {clipped:.0%} of the pixels black or white, for values of {low:g} to "
            f"{high:g}; if that is not meant, write one window that fits all images into all files",
        )
    shares = counts.cumsum() / counts.sum()
    levels = int(np.searchsorted(shares, 0.999) - np.searchsorted(shares, 0.001, side="right")) + 1
    if levels >= FEW_LEVELS:
        return ()
    if scale.voi is not None:
        return (f"its lookup table shows the image with {levels} of 256 gray levels",)
    return (
        f"no window fixes its gray scale, so its bits do: values {low:g} to {high:g} of {scale.low:g} to "
        f"{scale.high:g}, {levels} of 256 gray levels; write one window that fits all images into all files "
        f"(this one: WindowCenter {(low + high + 1) / 2:g}, WindowWidth {high - low + 1:g})",
    )
