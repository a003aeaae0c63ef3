"""What a compressed picture says of itself: a JPEG, JPEG-LS, JPEG 2000 or HTJ2K codestream, before it is decoded."""

import struct
from dataclasses import dataclass

SIZE_OF_IMAGE = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins (ISO 15444-1 A.4)
END_OF_IMAGE = b"\xff\xd9"
START_OF_FRAME = frozenset({0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # JPEG-LS, and the processes of JPEG
LOSSY_JPEG = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
JPEG, JPEG_LOSSLESS, JPEG_LS, JPEG_2000 = "JPEG", "JPEG Lossless or of 12 bits", "JPEG-LS", "JPEG 2000"


@dataclass(frozen=True)
class Codestream:
    """The header of a compressed picture.

    Attributes:
        kind: what decoders know it as: ``JPEG`` has 8 bits and is lossy, ``JPEG_2000`` includes HTJ2K.
        width_px, height_px, precision_bits: of the picture.
        components: 1, or 3 for colours.
        components_are_ycc: whether the colours, as a decoder gives them that leaves them alone, are a luma and two
            chromas; None if the codestream leaves it to the file.
    """

    kind: str
    width_px: int
    height_px: int
    precision_bits: int
    components: int
    components_are_ycc: bool | None


def read_codestream(data: bytes) -> Codestream | None:
    """The header of a codestream; None if it cannot be read."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        start = data[:4096].find(SIZE_OF_IMAGE)  # some files wrap the codestream into the boxes of a JP2 file
        return _jpeg_2000(data, start) if start >= 0 else None
    except (struct.error, IndexError):
        return None


def _jpeg(data: bytes) -> Codestream | None:
    at, has_jfif, adobe_converts = 2, False, False
    while data[at] == 0xFF:
        kind, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        segment = data[at + 4 : at + 2 + length]
        has_jfif |= kind == 0xE0 and segment.startswith(b"JFIF")
        adobe_converts |= kind == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12
        if kind in START_OF_FRAME:
            precision, height, width, count = struct.unpack_from(">BHHB", segment)
            is_lossy = kind in LOSSY_JPEG
            is_ycc = None
            if is_lossy and count == 3:  # the rules of libjpeg; decoders that know Adobe's mark give RGB
                names = bytes(segment[6 + 3 * number] for number in range(count))
                is_ycc = False if adobe_converts else True if has_jfif or names == b"\1\2\3" else None
                is_ycc = False if names in (b"RGB", b"rgb") else is_ycc
            if kind == 0xF7:
                name = JPEG_LS
                if END_OF_IMAGE not in data[-64:]:  # without one, CharLS looks for it for a long time
                    return None
            else:
                name = JPEG if is_lossy and precision == 8 else JPEG_LOSSLESS
            return Codestream(name, width, height, precision, count, is_ycc)
        at += 2 + length
    return None


def _jpeg_2000(data: bytes, start: int) -> Codestream:
    length, _, right, bottom, left, top = struct.unpack_from(">HHIIII", data, start + 4)
    (count,), precision = struct.unpack_from(">H", data, start + 40), (data[start + 42] & 0x7F) + 1
    at, is_ycc = start + 4 + length, None
    while data[at] == 0xFF and data[at + 1] != 0x90:  # up to the first tile
        (length,) = struct.unpack_from(">H", data, at + 2)
        if data[at + 1] == 0x52 and count >= 3 and data[at + 8]:
            is_ycc = False  # a colour transform of the codestream, which decoders undo
        at += 2 + length
    return Codestream(JPEG_2000, right - left, bottom - top, precision, count, is_ycc)
