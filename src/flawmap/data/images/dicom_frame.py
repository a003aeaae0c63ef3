"""The first frame of a DICOM file: decompressed, unused bits removed, padding found. Other frames are not decoded."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images import gdcm_process
from flawmap.data.images.dicom_codestream import JPEG, JPEG_2000, JPEG_LOSSLESS, JPEG_LS, Codestream, read_codestream
from flawmap.data.images.dicom_fields import ITEM, PixelFields, numbers
from flawmap.errors import UserError

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
NATIVE = (EXPLICIT, IMPLICIT, BIG_ENDIAN)
RLE = "1.2.840.10008.1.2.5"
PART_2 = ("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93")  # JPEG 2000 codestreams that decoders take for part 1
# By kind of codestream: a transfer syntax of pydicom, its names of decoders, best first, and the package to install.
DECODERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    JPEG: ("1.2.840.10008.1.2.4.50", ("pillow",), "pillow"),
    JPEG_LOSSLESS: ("1.2.840.10008.1.2.4.57", ("gdcm",), "python-gdcm"),
    JPEG_LS: ("1.2.840.10008.1.2.4.80", ("pyjpegls",), "pyjpegls"),
    JPEG_2000: ("1.2.840.10008.1.2.4.90", ("pylibjpeg", "pillow"), "pylibjpeg pylibjpeg-openjpeg"),
    RLE: (RLE, ("pydicom",), "pydicom"),
}
DECODING_SECONDS = 120  # far more than the largest picture takes


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
    from pydicom.pixels.processing import convert_color_space

    data = dataset[fields.keyword].value
    if data[:4] == ITEM:
        container, codestream = _decompressed(dataset, data, fields)
        precision = codestream.precision_bits if codestream else fields.bits_allocated
        is_ycc = codestream.components_are_ycc if codestream else None
    else:
        container, precision, is_ycc = _uncompressed(dataset, data, fields, remarks), fields.bits_allocated, None
    if fields.samples == 3 and (fields.photometric in ("YBR_FULL", "YBR_FULL_422") if is_ycc is None else is_ycc):
        if fields.bits_stored != 8:
            raise UserError(f"YBR colours of {fields.bits_stored} bits are not read", "", "save it as RGB")
        container = convert_color_space(container.astype(np.uint8), "YBR_FULL", "RGB")
    return container, precision


def _uncompressed(dataset: Any, data: bytes, fields: PixelFields, remarks: list[str]) -> NDArray:
    """The samples of the first frame as they lie in the file."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    named = UID(str(dataset.file_meta.get("TransferSyntaxUID") or ""))
    is_implicit, is_little_endian = dataset.original_encoding
    syntax = named if named in NATIVE else IMPLICIT if is_implicit else EXPLICIT if is_little_endian else BIG_ENDIAN
    if named and named not in NATIVE:
        if named.is_private:
            raise _not_read(named.name)
        remarks.append(f"its pixels are not compressed, though it names {named.name}")
    _refuse_truncated(data, fields, remarks)
    is_subsampled = fields.samples == 3 and fields.photometric == "YBR_FULL_422"
    options = _options(fields, fields.bits_allocated, fields.bits_stored)
    options["photometric_interpretation"] = "YBR_FULL_422" if is_subsampled else options["photometric_interpretation"]
    options |= {"planar_configuration": fields.planar, "pixel_keyword": fields.keyword, "number_of_frames": 1}
    options["pixel_vr"] = dataset[fields.keyword].VR
    container, _ = get_decoder(syntax).as_array(data, index=0, raw=True, **options)
    return container.astype(container.dtype.newbyteorder("="), copy=False)


def _decompressed(dataset: Any, data: bytes, fields: PixelFields) -> tuple[NDArray, Codestream | None]:
    """The samples of the first frame, by the decoder of its codestream, and the codestream's header; None for RLE."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    named = UID(str(dataset.file_meta.get("TransferSyntaxUID") or ""))
    offsets = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    extended_offsets = offsets if all(offsets) else None
    frame = get_frame(data, 0, number_of_frames=fields.frames, extended_offsets=extended_offsets)
    codestream = read_codestream(frame)
    if named in PART_2 or (codestream is None and (named in NATIVE or named.is_private or _is_other(named))):
        raise _not_read(named.name or "something that the file does not name")
    if codestream is None and named != RLE:
        raise _damaged(named.name)
    if codestream is not None:
        _refuse_other_size(codestream, fields)
    syntax, names, package = DECODERS[codestream.kind if codestream else RLE]
    decoder = get_decoder(syntax)
    available = [name for name in names if name in decoder.available_plugins]
    if not available:
        kind = codestream.kind if codestream else decoder.UID.name
        raise UserError(f"no decoder of {kind} is installed", "", f"pip install {package}")
    if codestream and codestream.kind == JPEG_LOSSLESS:
        return _decoded_by_gdcm(frame, codestream), codestream
    allocated, bits = fields.bits_allocated, fields.bits_stored
    if codestream:  # decoders go by it, whatever the fields say
        bits = codestream.precision_bits
        allocated = 8 if bits <= 8 else 16 if bits <= 16 else 32
    options = _options(fields, allocated, bits)
    options |= {"number_of_frames": fields.frames, "extended_offsets": extended_offsets}
    try:
        container, _ = decoder.as_array(data, index=0, raw=True, decoding_plugin=available[0], **options)
    except RuntimeError as error:  # the messages of all decoders, in many lines
        raise _damaged(codestream.kind if codestream else "RLE") from error
    return container, codestream


def _options(fields: PixelFields, bits_allocated: int, bits_stored: int) -> dict[str, Any]:
    """What pydicom wants to know. Decoders that give planes instead of pixels change ``planar_configuration``."""
    return {
        "rows": fields.rows,
        "columns": fields.columns,
        "samples_per_pixel": fields.samples,
        "photometric_interpretation": "RGB" if fields.samples == 3 else "MONOCHROME2",  # so that nothing is converted
        "bits_allocated": bits_allocated,
        "bits_stored": bits_stored,
        "pixel_representation": int(fields.is_signed),
        "planar_configuration": 0,
        "pixel_keyword": "PixelData",
        "correct_unused_bits": False,
    }


def _decoded_by_gdcm(frame: bytes, codestream: Codestream) -> NDArray[np.unsignedinteger]:
    """The samples of a JPEG that only GDCM decodes, which aborts its process on some damaged ones."""
    facts = (codestream.width_px, codestream.height_px, codestream.components, codestream.precision_bits)
    command = [sys.executable, "-P", str(Path(gdcm_process.__file__)), *(str(fact) for fact in facts)]
    try:
        done = subprocess.run(command, input=frame, capture_output=True, timeout=DECODING_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise _damaged(codestream.kind) from error
    values = np.frombuffer(done.stdout, "u1" if codestream.precision_bits <= 8 else "<u2")
    shape = (codestream.height_px, codestream.width_px, codestream.components)
    if done.returncode or values.size != np.prod(shape):
        raise _damaged(codestream.kind)
    return values.reshape(shape[: 2 if codestream.components == 1 else 3])


def _is_other(syntax: Any) -> bool:
    """MPEG and HEVC, JPEG XL, SMPTE."""
    return syntax.startswith(("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.4.11", "1.2.840.10008.1.2.7"))


def _not_read(encoding: str) -> UserError:
    remedy = "save it with JPEG 2000 or uncompressed"
    return UserError(f"DICOM pixels compressed as {encoding} are not read", "", remedy)


def _damaged(encoding: str) -> UserError:
    return UserError(f"the image cannot be decoded: damaged {encoding}", "", "copy it again, or remove it")


def _refuse_other_size(codestream: Codestream, fields: PixelFields) -> None:
    """Refuse, before decoding, which could take any memory, a picture of another size than the fields say."""
    found = f"{codestream.width_px} x {codestream.height_px} px"
    expected = f"{fields.columns} x {fields.rows} px"
    if codestream.components != fields.samples:
        found, expected = f"{codestream.components} values per pixel", str(fields.samples)
    if found != expected:
        problem = f"the image cannot be decoded: it has {found}, its fields say {expected}"
        raise UserError(problem, "", "copy it again, or remove it")


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
