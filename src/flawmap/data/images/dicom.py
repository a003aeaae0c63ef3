"""How a DICOM file becomes pixels: one frame, windowed as a viewer shows it. Needs the extra ``medical`` (pydicom).

Stored values become gray levels on a scale that the file fixes, never on the image's own extremes: by its VOI lookup
table or its window (pydicom applies both, by PS3.3 C.11.2), or, without either, by the range of its bits. MONOCHROME1
is inverted, so that bright is always bright.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.errors import UserError

PALETTE = "PALETTE COLOR"  # stored values are indices into a table of colours
MAGIC, MAGIC_AT = b"DICM", 128
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax whose whole content is compressed, fields and all


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
    """Whether a file's content is DICOM, whatever the file is called."""
    return data[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC


def read_dicom(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The first frame, uint8 (height, width), or (height, width, 3) if it has colours.

    Args:
        data: the file's content.
        max_pixels: larger images are refused before anything is decoded.

    Raises:
        UserError: pydicom is not installed, the file holds no image or too large a one, or its window is invalid.
        Exception: whatever pydicom raises for a damaged file.
    """
    dataset, stored = _first_frame(data, max_pixels)
    if dataset.SamplesPerPixel > 1:  # pydicom has converted the colours to RGB
        return (stored >> max(dataset.BitsStored - 8, 0)).astype(np.uint8)
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing

    if dataset.PhotometricInterpretation == PALETTE:
        bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
        return (apply_color_lut(stored, dataset) >> max(bits - 8, 0)).astype(np.uint8)
    values = apply_modality_lut(stored, dataset)
    black, white = _value_range(dataset)  # pydicom's windowing returns values in this range
    if dataset.get("VOILUTSequence"):
        black, white = 0, 2 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
        values = apply_voi(np.rint(values).astype(np.int32), dataset)
    elif _window(dataset) is not None:
        dataset.VOILUTFunction = dataset.get("VOILUTFunction") or "LINEAR"  # pydicom does not take an empty one
        try:
            values = apply_windowing(values, dataset)
        except ValueError as error:
            raise UserError(f"the window cannot be applied: {error}", "", "correct the file's window") from error
    else:
        black, white = min(black, white), max(black, white)  # a negative slope exchanges them
    shares = (np.asarray(values, np.float64) - black) / (white - black)
    gray = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
    return 255 - gray if dataset.PhotometricInterpretation == "MONOCHROME1" else gray


def dicom_gray_values(data: bytes, max_pixels: int) -> GrayValues | None:
    """The first frame before windowing, for a viewer; None if it has colours or at most 8 bits.

    For a lookup table or a sigmoid, the window holds their ends: between these, a linear window shows other grays.

    Raises:
        as :func:`read_dicom`.
    """
    dataset, stored = _first_frame(data, max_pixels)
    if dataset.SamplesPerPixel > 1 or dataset.BitsStored <= 8 or dataset.PhotometricInterpretation == PALETTE:
        return None
    from pydicom.pixels.processing import apply_modality_lut

    values = np.asarray(apply_modality_lut(stored, dataset), np.float32)
    black, white = sorted(_value_range(dataset))
    if not dataset.get("VOILUTSequence") and (window := _window(dataset)) is not None:
        centre, width = window
        if (dataset.get("VOILUTFunction") or "LINEAR") == "LINEAR":
            centre, width = centre - 0.5, max(width - 1, 1.0)
        black, white = centre - width / 2, centre + width / 2
    is_inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    return GrayValues(values, (white, black) if is_inverted else (black, white))


def _first_frame(data: bytes, max_pixels: int) -> tuple[Any, NDArray]:
    """The file's fields, and stored pixels (height, width) or (height, width, 3)."""
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise UserError("DICOM needs the package pydicom", "", 'pip install "flawmap[medical]"') from error
    if DEFLATED in data:  # pydicom would inflate it to any size before a limit could be checked
        raise UserError("a deflated DICOM file is not read", "", "save it with its pixels compressed, not the file")
    dataset = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in dataset:
        raise UserError("this DICOM file holds no image", "", "remove it")
    if dataset.Rows * dataset.Columns > max_pixels:
        size = f"{dataset.Columns} x {dataset.Rows} px"
        raise UserError(f"{size} is more than {max_pixels:,} pixels", "", "cut it into tiles")
    from pydicom.pixels.utils import pixel_array

    return dataset, pixel_array(dataset, index=0)  # other frames are not decoded


def _value_range(dataset: Any) -> tuple[float, float]:
    """What the lowest and the highest stored number mean: the range that pydicom's windowing maps to."""
    if dataset.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = dataset.BitsStored
    lowest = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        slope, intercept = 1, 0
    return float(lowest * slope + intercept), float((lowest + 2**bits - 1) * slope + intercept)


def _window(dataset: Any) -> tuple[float, float] | None:
    """Centre and width of the first window; None if there is none, or it is empty."""
    values = []
    for name in ("WindowCenter", "WindowWidth"):
        value = dataset.get(name)
        if value in (None, ""):
            return None
        values.append(float(value if isinstance(value, int | float | str) else value[0]))
    return values[0], values[1]
