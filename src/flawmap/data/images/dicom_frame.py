"""The first frame of a DICOM file: decompressed, unused bits removed, padding found. Other frames are not decoded."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.dicom_codestream import Codestream, read_codestream
from flawmap.data.images.dicom_fields import ITEM, PixelFields, numbers
from flawmap.errors import UserError

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
JPEG_EXTENDED, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57"
# pydicom's names of decoders, the safest first (GDCM is the only one for JPEG Lossless), and the package to install.
DECODERS: dict[str, tuple[tuple[str, ...], str]] = {
    "1.2.840.10008.1.2.4.50": (("pillow",), "pillow"),
    JPEG_EXTENDED: (("pillow",), "pillow"),
    JPEG_LOSSLESS: (("gdcm",), "python-gdcm"),
    "1.2.840.10008.1.2.4.70": (("gdcm",), "python-gdcm"),
    "1.2.840.10008.1.2.4.80": (("pyjpegls", "gdcm"), "pyjpegls"),
    "1.2.840.10008.1.2.4.81": (("pyjpegls", "gdcm"), "pyjpegls"),
    "1.2.840.10008.1.2.4.90": (("pylibjpeg", "pillow", "gdcm"), "pylibjpeg pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.91": (("pylibjpeg", "pillow", "gdcm"), "pylibjpeg pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.201": (("pylibjpeg",), "pylibjpeg pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.202": (("pylibjpeg",), "pylibjpeg pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.203": (("pylibjpeg",), "pylibjpeg pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.5": (("pydicom",), "pydicom"),  # RLE
}
NATIVE = (EXPLICIT, IMPLICIT, BIG_ENDIAN)


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        stored: what the stored bits mean, (height, width), or RGB (height, width, 3).
        is_padding: (height, width), where the file says that there is no image; None if it does not say so anywhere.
        remarks: how the pixels were read, where that is not plain.
    """

    stored: NDArray
    is_padding: NDArray[np.bool_] | None
    remarks: tuple[str, ...]


def read_frame(dataset: Any, fields: PixelFields) -> Frame:
    """Decode the first frame.

    Args:
        dataset: of pydicom.
        fields: of its pixels; the caller has checked their size.

    Raises:
        UserError: no decoder is installed or known, or the pixels are truncated or not what the fields say.
        Exception: whatever a decoder raises for damaged pixels.
    """
    remarks: list[str] = []
    container, precision = _decoded(dataset, fields, remarks)
    if fields.is_float:
        stored = container
    else:
        container = container.view(f"u{container.dtype.itemsize}")
        stored = _without_unused_bits(container, fields, precision, remarks)
    is_padding = None if fields.samples > 1 else _padding(dataset, container, stored, fields)
    if fields.is_float and is_padding is not None:
        stored = np.where(is_padding, 0, stored)  # it may be NaN
    return Frame(stored, is_padding, tuple(remarks))


def _decoded(dataset: Any, fields: PixelFields, remarks: list[str]) -> tuple[NDArray, int]:
    """The samples in their containers, and the number of bits that a decoder gives. Colours are converted to RGB."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import convert_color_space

    data = dataset[fields.keyword].value
    syntax, codestream = _transfer_syntax(dataset, data, fields, remarks)
    decoder, plugin = get_decoder(syntax), ""
    if syntax in NATIVE:
        _refuse_truncated(data, fields, remarks)
    else:
        names = DECODERS[syntax][0]
        available = [name for name in names if name in decoder.available_plugins]
        if not available:
            problem = f"no decoder of {decoder.UID.name} is installed"
            raise UserError(problem, "", f"pip install {DECODERS[syntax][1]}")
        plugin = available[0]
    is_ycc = fields.photometric in ("YBR_FULL", "YBR_FULL_422")
    if codestream and codestream.components_are_ycc is not None and fields.samples == 3:
        is_ycc = codestream.components_are_ycc
    is_subsampled = fields.photometric == "YBR_FULL_422" and syntax in NATIVE
    colours = "YBR_FULL_422" if is_subsampled else "YBR_FULL" if is_ycc else "RGB"
    options: dict[str, Any] = {
        "rows": fields.rows,
        "columns": fields.columns,
        "samples_per_pixel": fields.samples,
        "photometric_interpretation": "MONOCHROME2" if fields.samples == 1 else colours,
        "bits_allocated": fields.bits_allocated,
        "bits_stored": fields.bits_stored,
        "pixel_representation": int(fields.is_signed),
        "planar_configuration": fields.planar,
        "number_of_frames": 1 if syntax in NATIVE else fields.frames,
        "pixel_keyword": fields.keyword,
        "pixel_vr": dataset[fields.keyword].VR,
        "correct_unused_bits": False,
        "extended_offsets": _extended_offsets(dataset),
    }
    try:
        container, _ = decoder.as_array(data, index=0, raw=True, decoding_plugin=plugin, **options)
    except RuntimeError as error:  # the messages of all decoders, in many lines
        raise _damaged(decoder.UID.name) from error
    container = container.astype(container.dtype.newbyteorder("="), copy=False)
    if fields.samples == 3 and is_ycc:
        if fields.bits_stored != 8:
            raise UserError(f"YBR colours of {fields.bits_stored} bits are not read", "", "save it as RGB")
        container = convert_color_space(container.astype(np.uint8), "YBR_FULL", "RGB")
    return container, codestream.precision_bits if codestream else fields.bits_allocated


def _transfer_syntax(
    dataset: Any, data: bytes, fields: PixelFields, remarks: list[str]
) -> tuple[str, Codestream | None]:
    """How the pixels are encoded, by the file or by the pixels themselves, and the header of a codestream."""
    from pydicom.encaps import get_frame
    from pydicom.uid import UID

    named = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    is_implicit, is_little_endian = dataset.original_encoding
    native = named if named in NATIVE else IMPLICIT if is_implicit else EXPLICIT if is_little_endian else BIG_ENDIAN
    is_encapsulated = data[:4] == ITEM
    if not is_encapsulated:
        if named in DECODERS:
            remarks.append(f"its pixels are not compressed, though it names {UID(named).name}")
        elif named and named not in NATIVE:
            raise _not_read(UID(named).name)
        return native, None
    if named and named not in DECODERS and named not in NATIVE:
        raise _not_read(UID(named).name)
    frame = get_frame(data, 0, number_of_frames=fields.frames, extended_offsets=_extended_offsets(dataset))
    codestream = read_codestream(frame)
    if named not in DECODERS:
        if codestream is None or codestream.syntax is None:
            raise _not_read("something that the file does not name")
        named = codestream.syntax
        remarks.append(f"it does not say how its pixels are compressed; read as {UID(named).name}")
    if codestream is None and named != "1.2.840.10008.1.2.5":
        raise _damaged(UID(named).name)
    if codestream and (codestream.width_px, codestream.height_px) != (fields.columns, fields.rows):
        problem = f"its pixels are {codestream.width_px} x {codestream.height_px}, its fields say {fields.columns} x "
        raise UserError(f"the image cannot be decoded: {problem}{fields.rows}", "", "copy it again, or remove it")
    if named == JPEG_EXTENDED and codestream and codestream.precision_bits > 8:
        named = JPEG_LOSSLESS  # GDCM chooses the process by the codestream, but pydicom keeps this one from it
    return named, codestream


def _not_read(encoding: str) -> UserError:
    return UserError(
        f"DICOM pixels compressed as {encoding} are not read", "", "save it with JPEG 2000 or uncompressed"
    )


def _damaged(encoding: str) -> UserError:
    return UserError(f"the image cannot be decoded: damaged {encoding}", "", "copy it again, or remove it")


def _extended_offsets(dataset: Any) -> tuple[bytes, bytes] | None:
    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return (offsets, lengths) if offsets and lengths else None


def _refuse_truncated(data: bytes, fields: PixelFields, remarks: list[str]) -> None:
    """Compare the length of uncompressed pixels with their number."""
    bits = fields.rows * fields.columns * fields.samples * fields.bits_allocated
    if fields.photometric == "YBR_FULL_422":
        bits = bits // 3 * 2
    expected = -(-bits // 8)
    if len(data) < expected:
        problem = f"the image cannot be decoded: truncated ({len(data):,} of {expected:,} bytes of pixels)"
        raise UserError(problem, "", "copy it again, or remove it")
    surplus = len(data) - -(-bits * fields.frames // 8)
    if surplus > 1:  # one byte makes the length even
        remarks.append(f"{surplus:,} bytes follow the pixels and are left out")
    elif surplus < 0:
        remarks.append("the frames after the first are truncated")


def _without_unused_bits(
    container: NDArray, fields: PixelFields, precision_bits: int, remarks: list[str]
) -> NDArray[np.integer]:
    """The stored bits of unsigned containers, at the right place and with their sign."""
    width = 8 * container.dtype.itemsize
    bits = min(fields.bits_stored, width)
    shift = _shift(container, fields, bits, precision_bits, remarks)
    mask = (1 << bits) - 1
    stored = container >> shift if shift else container
    if bits + shift < width or shift:
        unused = stored & ~np.array(mask, stored.dtype)
        stored = stored & np.array(mask, stored.dtype)
        if fields.is_signed:  # a sign extension is no content
            unused = unused[(stored >> (bits - 1)) == 0]
        share = np.count_nonzero(unused) / container.size
        if share:
            remarks.append(f"bits above the {bits} stored ones are set in {share:.2%} of the pixels and left out")
    if not fields.is_signed:
        return stored
    if bits == width:
        return stored.view(f"i{width // 8}")
    wide = stored.astype(f"i{2 * width // 8}" if width < 64 else "i8")
    sign = 1 << (bits - 1)
    return (wide ^ sign) - sign


def _shift(container: NDArray, fields: PixelFields, bits: int, precision_bits: int, remarks: list[str]) -> int:
    """How many bits lie below the stored ones; 0 if the file names a high bit that its values contradict."""
    shift = fields.high_bit + 1 - fields.bits_stored
    if shift <= 0 or precision_bits <= fields.high_bit:
        return 0
    has_content_below = bool((container & np.array((1 << shift) - 1, container.dtype)).any())
    has_content_above = bool((container >> bits).any())
    if has_content_below and not has_content_above:
        remarks.append(f"HighBit {fields.high_bit} is taken as {bits - 1}: all values lie in the lowest {bits} bits")
        return 0
    return shift


def _padding(dataset: Any, container: NDArray, stored: NDArray, fields: PixelFields) -> NDArray[np.bool_] | None:
    """Where the file says that there is no image (PS3.3 C.7.5.1.1.2): a value, or a range of stored values."""
    prefix = fields.keyword.removesuffix("Data")  # Pixel, FloatPixel, DoubleFloatPixel
    if fields.is_float and str(dataset.get(f"{prefix}PaddingValue")) == "nan":
        return _found(np.isnan(stored))
    ends = numbers(dataset, f"{prefix}PaddingValue")[:1]
    if not ends:
        return None
    ends += numbers(dataset, f"{prefix}PaddingRangeLimit")[:1]
    if fields.is_float:
        return _found((stored >= min(ends)) & (stored <= max(ends)))
    lowest, highest = fields.value_range
    size = 1 << fields.bits_allocated
    offset = size // 2 if fields.is_signed else 0
    # written with the other sign by some programs, so that it lies outside
    whole = [int(end) if lowest <= end <= highest else (int(end) + offset) % size - offset for end in ends]
    if min(whole) < lowest or max(whole) > highest:  # it uses bits above the stored ones
        stored = container.view(f"i{container.dtype.itemsize}") if fields.is_signed else container
    return _found((stored >= min(whole)) & (stored <= max(whole)))


def _found(is_padding: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return is_padding if is_padding.any() else None
