"""Files that are cut, overwritten or changed: right pixels, a remark or an error, but no wrong pixels in silence."""

import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assertions import explained, mistake
from flawmap.data.images.files import DecodedImage, decode_image, decode_with_remarks
from flawmap.errors import UserError
from images import noise, texture

ROWS_MISSING = "the image cannot be decoded: truncated or damaged, rows are missing"
PARTS_MISSING = "the image cannot be decoded: truncated or damaged, parts are missing"
SCANS_MISSING = "the image cannot be decoded: truncated or damaged, scans are missing"
PICTURE = texture(0, 192, 256)


def encoded(pixels: np.ndarray, pillow_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, pillow_format, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def outcome(data: bytes, whole: np.ndarray) -> str:
    try:
        read = decode_with_remarks(data)
    except UserError as error:
        assert error.problem and error.remedy
        return "error"
    return "right" if np.array_equal(read.pixels, whole) else "remark" if read.remarks else "wrong"


# ---- JPEG

JPEG = encoded(PICTURE, "JPEG", quality=90)
SCAN_AT = JPEG.index(b"\xff\xda") + 14


@pytest.mark.parametrize("chroma", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", ["baseline", "restarts by row", "restarts by block", "progressive"])
def test_whole_jpeg_files_are_read_as_pillow_reads_them_and_without_a_remark(kind: str, mode: str, chroma: dict):
    restarts = {"restarts by row": {"restart_marker_rows": 1}, "restarts by block": {"restart_marker_blocks": 3}}
    options = {**restarts.get(kind, {}), **(chroma if mode == "RGB" else {}), "progressive": kind == "progressive"}
    for seed, (height, width) in enumerate([(1, 1), (8, 8), (17, 31), (5, 64), (64, 5), (90, 120)]):
        flat = np.full((height, width, 3), 40 * seed, np.uint8)
        for pixels in (noise(seed, height, width), texture(seed, height, width), flat):
            for optimize in (False, True):
                file = io.BytesIO()
                Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=90, optimize=optimize, **options)
                read = decode_with_remarks(file.getvalue())
                assert np.array_equal(read.pixels, by_pillow(file.getvalue())) and read.remarks == ()


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:-2],
        JPEG[:-1],
        JPEG[:-2] + bytes(5000),
        JPEG + bytes(5000),
        JPEG + b"\xff\x00garbage" * 100,
        JPEG[:-2] + b"\xff\xff\xff\xd9",  # fill bytes
        JPEG[:-2] + b"\x00\x00\xff\xd9",  # bytes that some cameras leave
        JPEG[:2] + b"\xff\xfe\x00\x06abcd" + JPEG[2:],  # a comment
    ],
)
def test_a_jpeg_file_with_all_its_rows_is_read(data: bytes):
    assert decode_with_remarks(data).remarks == ()
    assert np.array_equal(decode_image(data), by_pillow(JPEG))


@pytest.mark.parametrize("tail", [b"", b"\xff\xd9", bytes(3000), b"\xff\xd8\xff\xe0" + bytes(99)])
@pytest.mark.parametrize("missing", [20, 200, 2000, len(JPEG) // 2, len(JPEG) - SCAN_AT])
def test_a_jpeg_file_without_all_its_rows_is_an_error(missing: int, tail: bytes):
    with mistake(ROWS_MISSING, "a.jpg", "copy it again"):
        decode_image(JPEG[: len(JPEG) - missing] + tail, place="a.jpg")


@pytest.mark.parametrize("missing", [200, 2000, len(JPEG) // 2])
def test_zeros_before_the_end_marker_are_noticed(missing: int):
    """They decode to blocks, but not to as many as were there."""
    data = JPEG[: len(JPEG) - missing] + bytes(3000) + b"\xff\xd9"
    assert outcome(data, by_pillow(JPEG)) in ("error", "remark")


@settings(deadline=None, max_examples=60)
@given(st.integers(SCAN_AT, len(JPEG) - 3))
def test_no_wrong_pixel_is_read_from_a_jpeg_file_that_is_cut_anywhere(length: int):
    assert outcome(JPEG[:length], by_pillow(JPEG)) in ("error", "right")
    assert outcome(JPEG[: length - 12] + b"\xff\xd9", by_pillow(JPEG)) == "error"


@pytest.mark.parametrize("fill", ["zeros", "noise", "other file"])
def test_holes_in_jpeg_data_are_noticed(fill: str):
    """JPEG has no checksums: what decodes to as many blocks as the lost bytes held cannot be noticed."""
    other = encoded(texture(9, 192, 256), "JPEG", quality=90)[SCAN_AT:-2]
    outcomes = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        at = int(random.integers(SCAN_AT, len(JPEG) - 4400))
        hole = {"zeros": bytes(4096), "noise": random.bytes(4096), "other file": other[-4096:]}[fill]
        outcomes.append(outcome(JPEG[:at] + hole + JPEG[at + 4096 :], by_pillow(JPEG)))
    assert outcomes.count("error") + outcomes.count("remark") >= 37 and "right" not in outcomes


def test_data_that_is_left_over_is_remarked():
    twice = JPEG[: SCAN_AT + 3000] + JPEG[SCAN_AT + 1000 :]
    read = decode_with_remarks(twice)
    assert isinstance(read, DecodedImage)
    assert read.remarks == (
        "data is left over after the last row: the file may be damaged, and parts of the image wrong",
    )


@pytest.mark.parametrize("change", ["lost", "again", "swapped"])
def test_restart_markers_are_counted(change: str):
    data = encoded(PICTURE, "JPEG", restart_marker_rows=1)
    assert decode_with_remarks(data).remarks == ()
    markers = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    assert len(markers) == 192 // 16 - 1
    second, third = markers[1], markers[2]
    changed = {
        "lost": data[:second] + data[third:],
        "again": data[:third] + data[second:],
        "swapped": data[:second] + b"\xff\xd5" + data[second + 2 :],
    }[change]
    with mistake(PARTS_MISSING, "", "copy it again"):
        decode_image(changed)


def test_a_progressive_jpeg_file_needs_all_its_scans():
    data = encoded(PICTURE, "JPEG", progressive=True)
    assert np.array_equal(decode_image(data), by_pillow(data))
    scans = [match.start() for match in re.finditer(rb"\xff\xda", data)]
    assert len(scans) > 5
    for at in scans[1:]:
        with mistake(SCANS_MISSING, "", "copy it again"):
            decode_image(data[:at] + b"\xff\xd9")
    for length in (len(data) - 2, len(data) // 2, scans[1]):
        assert explained(lambda length=length: decode_image(data[:length])).remedy


def test_jpeg_with_12_bits_is_named():
    data = bytearray(JPEG)
    data[JPEG.index(b"\xff\xc0") + 4] = 12
    with mistake("JPEG with 12 bits is not read", "", "save it as PNG or TIFF with 16 bits"):
        decode_image(bytes(data))


# ---- the others

SMALL = {kind: encoded(noise(0, 16, 12), kind) for kind in ("PNG", "BMP", "TIFF", "PPM")}
SMALL["WEBP"] = encoded(noise(0, 16, 12), "WEBP", lossless=True)
SMALL["deep PNG"] = encoded(noise(0, 16, 12)[..., 0].astype(np.uint16) * 257, "PNG")


def test_no_changed_bit_of_a_png_file_goes_unnoticed():
    data = SMALL["PNG"]
    for at in range(8, len(data) - 12):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            assert outcome(bytes(changed), noise(0, 16, 12)) in ("error", "right"), at


def test_a_wrong_checksum_names_its_chunk():
    changed = bytearray(SMALL["PNG"])
    changed[-20] ^= 1
    with mistake("the file is damaged: the checksum of its chunk IDAT at byte 33 is wrong", "a.png", "copy it again"):
        decode_image(bytes(changed), place="a.png")


@pytest.mark.parametrize("kind", SMALL)
def test_no_wrong_pixel_is_read_from_a_file_that_is_cut_anywhere(kind: str):
    data = SMALL[kind]
    whole = decode_image(data)
    outcomes = [outcome(data[:length], whole) for length in range(len(data))]
    assert set(outcomes) <= {"error", "right"}
    assert outcomes.count("right") <= 20  # checksums and the end of PNG


def test_png_without_its_end_is_read():
    assert np.array_equal(decode_image(SMALL["PNG"][:-12]), noise(0, 16, 12))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_run_length_encoded_bmp_file_that_ends_early_is_an_error(bits: int):
    palette = bytes(value for gray in range(2**bits) for value in (gray * 255 // (2**bits - 1),) * 3 + (0,))
    rows = b"".join(bytes([8, number * 17 % 2**bits]) + b"\0\0" for number in range(8)) + b"\0\1"

    def bmp(runs: bytes) -> bytes:
        at = 54 + len(palette)
        header = b"BM" + (at + len(runs)).to_bytes(4, "little") + bytes(4) + at.to_bytes(4, "little")
        sizes = [
            (40, 4),
            (8, 4),
            (8, 4),
            (1, 2),
            (bits, 2),
            (1 if bits == 8 else 2, 4),
            (len(runs), 4),
            (0, 8),
            (2**bits, 4),
            (0, 4),
        ]
        return header + b"".join(value.to_bytes(size, "little") for value, size in sizes) + palette + runs

    assert decode_image(bmp(rows)).shape == (8, 8, 3)
    for length in range(0, len(rows) - 4, 4):
        assert outcome(bmp(rows[:length]), decode_image(bmp(rows))) == "error"


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([*sorted(SMALL), "JPEG"]), st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_any_change_gives_pixels_or_an_explained_error(kind: str, place: int, new: bytes):
    data = SMALL.get(kind, JPEG)
    at = place % len(data)
    try:
        pixels = decode_image(data[:at] + new + data[at + len(new) :], max_pixels=1_000_000)
    except UserError as error:
        assert error.problem and error.remedy
    else:
        assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
