"""DICOM images in: one frame, windowed as a viewer shows it, as 8 bits. Needs the extra ``medical`` (pydicom).

Stored values become gray levels on a scale that the file fixes, never on the image's own extremes: by its window
(PS3.3 C.11.2.1.2 and C.11.2.1.3, functions LINEAR, LINEAR_EXACT and SIGMOID), by its VOI lookup table, or, without
either, by the range that its number of bits spans. MONOCHROME1 is inverted, so that bright is always bright.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.errors import UserError

PALETTE = "PALETTE COLOR"  # stored values are places in a table of colours
MAGIC, MAGIC_AT = b"DICM", 128
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax whose whole content is compressed, fields and all


@dataclass(frozen=True)
class GrayValues:
    """Gray values of more than 8 bits before they are windowed.

    Attributes:
        values: (height, width).
        window: the values that the model sees as black and as white; the first is above the second where the file
            shows high values dark.
    """

    values: NDArray[np.float32]
    window: tuple[float, float]


def is_dicom(data: bytes) -> bool:
    """Whether a file's content says that it is DICOM, whatever the file is called."""
    return data[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC


def read_dicom(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The first frame, uint8 (height, width), or (height, width, 3) where it has colours.

    Args:
        data: the file's content.
        max_pixels: more are refused before anything is decoded.

    Raises:
        UserError: pydicom is not installed, the file holds no picture, or too large a one.
        Exception: whatever pydicom raises for a damaged file.
    """
    dataset, stored = _first_frame(data, max_pixels)
    if dataset.SamplesPerPixel > 1:  # pydicom has converted the colours to RGB
        return (stored >> max(dataset.BitsStored - 8, 0)).astype(np.uint8)
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

    if dataset.PhotometricInterpretation == PALETTE:
        bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
        return (apply_color_lut(stored, dataset) >> max(bits - 8, 0)).astype(np.uint8)
    values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        rescaled = np.rint(values).astype(np.int32)  # the table maps what the modality's rescaling gives
        shares = apply_voi_lut(rescaled, dataset, prefer_lut=True).astype(np.float64) / (2**bits - 1)
    elif (window := _window(dataset)) is not None:
        shares = windowed(values, *window, dataset.get("VOILUTFunction") or "LINEAR")
    else:
        low, high = _spanned(dataset)
        shares = (values - low) / (high - low)
    gray = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
    return 255 - gray if dataset.PhotometricInterpretation == "MONOCHROME1" else gray


def dicom_gray_values(data: bytes, max_pixels: int) -> GrayValues | None:
    """The first frame before its window, for a viewer; None where it has colours or no more than 8 bits.

    Of a lookup table or a sigmoid the ends are given: between them a straight window shows other grays.

    Raises:
        as :func:`read_dicom`.
    """
    dataset, stored = _first_frame(data, max_pixels)
    if dataset.SamplesPerPixel > 1 or dataset.BitsStored <= 8 or dataset.PhotometricInterpretation == PALETTE:
        return None
    from pydicom.pixels.processing import apply_modality_lut

    values = np.asarray(apply_modality_lut(stored, dataset), np.float32)
    black, white = _spanned(dataset)
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
    if DEFLATED in data:  # pydicom would inflate it to any size before a limit could be looked at
        raise UserError("a deflated DICOM file is not read", "", "save it with its pixels compressed, not the file")
    dataset = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in dataset:
        raise UserError("this DICOM file holds no picture", "", "remove it")
    if dataset.Rows * dataset.Columns > max_pixels:
        raise UserError(
            f"{dataset.Columns} x {dataset.Rows} px is more than {max_pixels:,} pixels", "", "cut it into tiles"
        )
    from pydicom.pixels.utils import pixel_array

    return dataset, pixel_array(dataset, index=0)  # the other frames are not decoded


def _spanned(dataset: Any) -> tuple[float, float]:
    """Lowest and highest value that the file's bits can hold, after the modality's rescaling."""
    from pydicom.pixels.processing import apply_modality_lut

    lowest, highest = _representable(dataset.BitsStored, dataset.PixelRepresentation)
    ends = np.asarray(apply_modality_lut(np.array([lowest, highest]), dataset), np.float64)
    return float(ends.min()), float(ends.max())


def windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Values as shares of the display's range; below 0 and above 1 they are cut off.

    Args:
        values: after the modality's rescaling, any shape.
        centre: of the window.
        width: of the window.
        function: LINEAR, LINEAR_EXACT or SIGMOID.

    Raises:
        UserError: a window without width, or an unknown function.
    """
    if function == "LINEAR" and width >= 1:
        return ((values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5).clip(0, 1)
    if function == "LINEAR_EXACT" and width > 0:
        return ((values - centre) / width + 0.5).clip(0, 1)
    if function == "SIGMOID" and width > 0:
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    raise UserError(f"a window of width {width:g} with the function {function}", "", "mend the file's window")


def _window(dataset: Any) -> tuple[float, float] | None:
    """Centre and width, of several windows the first; None where the file has none, or leaves it empty."""
    centre, width = (dataset.get(name) for name in ("WindowCenter", "WindowWidth"))
    if centre in (None, "") or width in (None, ""):
        return None
    first, second = (one if isinstance(one, int | float | str) else one[0] for one in (centre, width))
    return float(first), float(second)


def _representable(bits: int, is_signed: int) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
