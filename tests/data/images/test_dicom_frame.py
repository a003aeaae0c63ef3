"""The first frame of DICOM files: unused bits, colours, and truly compressed pixels in every transfer syntax."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers
from PIL import Image

from dicom_files import (
    ALL_12_BITS,
    HTJ2K,
    RAMP,
    RGB,
    SIXTEEN_BITS,
    compressed,
    dicom,
    first_frame,
    pydicom,
    with_codestream,
    without_preamble,
)
from flawmap.data.images import gdcm_process
from flawmap.data.images.dicom_codestream import read_codestream
from flawmap.data.images.dicom_fields import pixel_fields
from flawmap.data.images.dicom_frame import DECODERS, read_frame
from flawmap.data.images.files import decode_with_remarks, read_image
from flawmap.errors import UserError

PLAIN = np.rint(RAMP / 4095 * 255)
JPEG, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
LOSSLESS = {
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, first-order prediction",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS, near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE",
}
COLOURS = np.stack(np.broadcast_arrays(np.arange(0, 256, 8)[:, None], np.arange(0, 256, 4), 99), -1).astype(np.uint8)


def stored_in(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    dataset = pydicom.dcmread(path)
    frame = read_frame(dataset, pixel_fields(dataset)[0])
    return frame.stored, frame.remarks


@pytest.mark.parametrize(
    ("above", "signed", "remarked"),
    [(0xA000, 0, True), (0x1000, 0, True), (0xF000, 0, True), (0xA000, 1, True), (0x0000, 1, False)],
)
def test_bits_above_the_stored_ones_are_left_out(tmp_path: Path, above: int, signed: int, remarked: bool):
    """Overlays of older files, and garbage."""
    path = dicom(tmp_path / "a.dcm", RAMP | np.uint16(above), PixelRepresentation=signed)
    stored, remarks = stored_in(path)
    assert np.array_equal(stored, np.where(RAMP > 2047, RAMP.astype(int) - 4096, RAMP) if signed else RAMP)
    assert bool(remarks) == remarked and all("bits above the 12 stored ones" in remark for remark in remarks)


def test_a_sign_extension_is_no_garbage(tmp_path: Path):
    values = RAMP.astype(np.int16) - 2048
    stored, remarks = stored_in(dicom(tmp_path / "a.dcm", values, PixelRepresentation=1))
    assert np.array_equal(stored, values) and remarks == ()


@given(integers(1, 16), integers(0, 15), booleans())
def test_any_place_of_the_stored_bits(bits: int, below: int, signed: bool):
    """Values are written at a place in 16 bits; whatever is written around them changes nothing."""
    shift = min(below, 16 - bits)
    lowest = -(1 << (bits - 1)) if signed and bits > 1 else 0
    values = np.random.default_rng(bits).integers(lowest, lowest + (1 << bits), (8, 8))
    values.flat[:2] = lowest, lowest + (1 << bits) - 1
    around = np.random.default_rng(below).integers(0, 1 << 16, (8, 8)) & ~(((1 << bits) - 1) << shift) if shift else 0
    if shift:
        around.flat[:2] |= 1 << 15 if bits + shift < 16 else 0
    words = ((values & ((1 << bits) - 1)) << shift) | around
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.BitsAllocated = 1, "MONOCHROME2", 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits + shift - 1, int(signed)
    dataset.add_new("PixelData", "OW", words.astype("<u2").tobytes())
    frame = read_frame(dataset, pixel_fields(dataset)[0])
    assert np.array_equal(frame.stored, values)


def test_a_high_bit_that_the_values_contradict(tmp_path: Path):
    stored, remarks = stored_in(dicom(tmp_path / "a.dcm", RAMP, HighBit=15))
    assert np.array_equal(stored, RAMP)
    assert remarks == ("HighBit 15 is taken as 11: all values lie in the lowest 12 bits",)
    stored, remarks = stored_in(dicom(tmp_path / "b.dcm", RAMP << 4, HighBit=15))
    assert np.array_equal(stored, RAMP) and remarks == ()


@pytest.mark.parametrize("kind", ["12 bits", "16 bits", "signed", "8 bits", "colours", "frames"])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=LOSSLESS.values())
def test_compressed_without_loss(tmp_path: Path, syntax: str, kind: str):
    stored, changes = RAMP, {}
    if kind == "16 bits":
        stored, changes = RAMP * np.uint16(16), SIXTEEN_BITS
    elif kind == "signed":
        stored, changes = RAMP.astype(np.int16) - 2048, {"PixelRepresentation": 1}
    elif kind == "8 bits":
        stored, changes = (RAMP // 16).astype(np.uint8), {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    elif kind == "colours":
        stored, changes = COLOURS, RGB
    elif kind == "frames":
        stored, changes = np.stack([RAMP, RAMP[::-1], RAMP * 0]), {"NumberOfFrames": 3}
    path = compressed(dicom(tmp_path / "a.dcm", stored, **changes), syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    decoded, remarks = stored_in(path)
    assert np.array_equal(decoded, stored[0] if kind == "frames" else stored) and remarks == ()
    plain = decode_with_remarks(dicom(tmp_path / "b.dcm", stored, **changes).read_bytes())
    again = decode_with_remarks(path.read_bytes())
    assert np.array_equal(again.pixels, plain.pixels) and again.remarks == plain.remarks


@pytest.mark.parametrize("syntax", LOSSLESS, ids=LOSSLESS.values())
def test_decoders_say_themselves_whether_colours_are_planes(tmp_path: Path, syntax: str):
    path = compressed(dicom(tmp_path / "a.dcm", COLOURS, **RGB), syntax)
    for planar in (0, 1):
        dataset = pydicom.dcmread(path)
        dataset.PlanarConfiguration = planar
        dataset.save_as(path)
        assert np.array_equal(read_image(path), COLOURS)


@pytest.mark.parametrize("stored", [8, 12, 16])
def test_an_8_bit_jpeg_in_an_image_of_more_bits(tmp_path: Path, stored: int):
    """The fields say how bright its values are; the codestream, how many bytes they have."""
    fields = {"BitsAllocated": 16, "BitsStored": stored, "HighBit": stored - 1, "WindowCenter": 128, "WindowWidth": 256}
    path = with_codestream(dicom(tmp_path / "a.dcm", RAMP, **fields), JPEG, [gray_jpeg(RAMP // 16)])
    assert np.abs(read_image(path)[..., 0] - RAMP / 16).max() < 8


@pytest.mark.parametrize("count", [3, 4, 200])
def test_components_that_the_fields_do_not_count_are_not_decoded(tmp_path: Path, count: int):
    """A decoder takes memory for each."""
    codestream = HTJ2K[:40] + count.to_bytes(2, "big") + HTJ2K[42:]
    path = dicom(tmp_path / "a.dcm", np.zeros((12, 16), np.uint16))
    with pytest.raises(UserError, match=f"it has {count} values per pixel, its fields say 1"):
        read_image(with_codestream(path, "1.2.840.10008.1.2.4.201", [codestream]))


@pytest.mark.parametrize("last", [201, 202, 203])
def test_high_throughput_jpeg_2000(tmp_path: Path, last: int):
    pytest.importorskip("openjpeg")
    expected = np.arange(12)[:, None] * 300 + np.arange(16) * 20
    path = dicom(tmp_path / "a.dcm", expected.astype(np.uint16), **SIXTEEN_BITS)
    stored, _ = stored_in(with_codestream(path, f"1.2.840.10008.1.2.4.{last}", [HTJ2K]))
    assert np.array_equal(stored, expected)


def test_extended_jpeg_of_12_bits(tmp_path: Path):
    path = compressed(dicom(tmp_path / "a.dcm", RAMP), "1.2.840.10008.1.2.4.51")
    stored, _ = stored_in(path)
    assert np.abs(stored.astype(int) - RAMP).max() < 40 and np.abs(stored.astype(int) - RAMP).mean() < 5


@pytest.mark.parametrize("garbage", [0x0000, 0xA000])
def test_jpeg_2000_with_bits_above_the_stored_ones(tmp_path: Path, garbage: int):
    """The codestream has 16 bits, of which the fields count 12."""
    pytest.importorskip("openjpeg")
    path = compressed(dicom(tmp_path / "a.dcm", RAMP | np.uint16(garbage), **SIXTEEN_BITS), JPEG_2000)
    dataset = pydicom.dcmread(path)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.save_as(path)
    image = decode_with_remarks(path.read_bytes())
    assert np.array_equal(image.pixels[..., 0], PLAIN) and bool(image.remarks) == bool(garbage)


ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"  # luma and chroma


def jpeg(colours: np.ndarray, subsampling: int, mark: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(colours).save(out, "JPEG", quality=95, subsampling=subsampling)
    data = out.getvalue()
    assert data[2:4] == b"\xff\xe0"
    plain = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]
    return {"JFIF": data, "Adobe": data[:2] + ADOBE + plain[2:], "both": data[:2] + ADOBE + data[2:], "": plain}[mark]


def gray_jpeg(gray: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(gray.astype(np.uint8)).save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.mark.parametrize("flagged", ["RGB", "YBR_FULL_422", "YBR_FULL"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mark", ["JFIF", "Adobe", "both", ""])
def test_colours_of_a_jpeg_are_what_the_jpeg_says(tmp_path: Path, flagged: str, subsampling: int, mark: str):
    """Many programs flag a JPEG as RGB whose components are luma and chroma."""
    codestream = jpeg(COLOURS, subsampling, mark)
    path = with_codestream(
        dicom(tmp_path / "a.dcm", COLOURS, **RGB), JPEG, [codestream], PhotometricInterpretation=flagged
    )
    expected = np.asarray(Image.open(io.BytesIO(codestream)).convert("RGB")).astype(int)
    assert np.abs(read_image(path).astype(int) - expected).max() <= 2  # pydicom's conversion rounds in its own way


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        ("SC_jpeg_no_color_transform.dcm", (244, 244, 244)),
        ("SC_jpeg_no_color_transform_2.dcm", (244, 244, 246)),
        ("SC_rgb_dcmtk_+eb+cr.dcm", (129, 129, 255)),
        ("SC_rgb_dcmtk_+eb+cy+s2.dcm", (125, 130, 255)),
        ("SC_rgb_jpeg_gdcm.dcm", (128, 128, 255)),
        ("SC_rgb_jpeg_lossy_gdcm.dcm", (124, 124, 255)),
        ("SC_rgb_gdcm_KY.dcm", (128, 128, 255)),
        ("SC_rgb_rle_32bit_2frame.dcm", (128, 128, 255)),
        ("SC_rgb_small_odd_big_endian.dcm", (63, 87, 176)),
        ("SC_ybr_full_422_uncompressed.dcm", (125, 130, 255)),
    ],
)
def test_colours_written_by_other_programs(name: str, middle: tuple[int, int, int]):
    """Files that come with pydicom, from DCMTK, GDCM and others; the values are those of pydicom's own tests."""
    from pydicom.data import get_testdata_file

    image = read_image(str(get_testdata_file(name, download=False)))
    assert np.abs(image[image.shape[0] // 2, image.shape[1] // 2].astype(int) - middle).max() <= 2


@pytest.mark.parametrize("flagged", ["RGB", "YBR_RCT", "YBR_ICT", "YBR_FULL", "YBR_FULL_422"])
def test_a_colour_transform_of_jpeg_2000_is_undone_once(tmp_path: Path, flagged: str):
    out = io.BytesIO()
    Image.fromarray(COLOURS).save(out, "JPEG2000", irreversible=False, no_jp2=True, mct=1)
    path = dicom(tmp_path / "a.dcm", COLOURS, **RGB)
    path = with_codestream(path, JPEG_2000, [out.getvalue()], PhotometricInterpretation=flagged)
    assert np.array_equal(read_image(path), COLOURS)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_uncompressed_colours(tmp_path: Path, planar: int, photometric: str):
    stored = COLOURS
    if photometric == "YBR_FULL":
        stored = np.asarray(Image.fromarray(COLOURS).convert("YCbCr"))
    fields = {**RGB, "PlanarConfiguration": planar, "PhotometricInterpretation": photometric}
    path = dicom(tmp_path / "a.dcm", stored, **fields)
    if planar:
        dataset = pydicom.dcmread(path)
        dataset.PixelData = np.ascontiguousarray(stored.transpose(2, 0, 1)).tobytes()
        dataset.save_as(path)
    assert np.abs(read_image(path).astype(int) - COLOURS).max() <= (3 if photometric == "YBR_FULL" else 0)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_colours_keep_their_upper_8_bits(tmp_path: Path, bits: int):
    stored = (COLOURS.astype(np.uint16) << (bits - 8)) | np.uint16(1)
    fields = {**RGB, "BitsAllocated": 16, "BitsStored": bits, "HighBit": bits - 1}
    assert np.array_equal(read_image(dicom(tmp_path / "a.dcm", stored, **fields)), COLOURS)


def test_the_pixels_tell_what_the_file_does_not(tmp_path: Path):
    """Fields without file meta information, and fields that name another encoding than the pixels have."""
    path = compressed(dicom(tmp_path / "a.dcm", RAMP, **ALL_12_BITS), "1.2.840.10008.1.2.4.80")
    frame = first_frame(path)
    for named in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", JPEG, JPEG_2000):
        assert np.array_equal(read_image(with_codestream(path, named, [frame]))[..., 0], PLAIN)
    path = dicom(tmp_path / "b.dcm", RAMP, **ALL_12_BITS)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    image = decode_with_remarks(path.read_bytes())
    assert np.array_equal(image.pixels[..., 0], PLAIN) and "not compressed, though it names RLE" in image.remarks[0]


def test_a_compressed_file_may_lack_its_preamble(tmp_path: Path):
    path = compressed(dicom(tmp_path / "a.dcm", RAMP), "1.2.840.10008.1.2.4.80")
    assert np.array_equal(read_image(without_preamble(path))[..., 0], PLAIN)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=LOSSLESS.values())
def test_without_a_decoder_the_remedy_installs_it(tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch):
    from pydicom.pixels.decoders.base import get_decoder

    path = compressed(dicom(tmp_path / "a.dcm", RAMP), syntax)
    for each, _, _ in DECODERS.values():
        monkeypatch.setattr(get_decoder(each), "_available", {})
    with pytest.raises(UserError, match=r"no decoder of .* is installed") as caught:
        read_image(path)
    assert caught.value.remedy.startswith("pip install ") and caught.value.place == str(path)
    assert not {"flawmap", "pylibjpeg-libjpeg"} & set(caught.value.remedy.split())  # unpublished; GPL


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)"),
        ("1.2.840.10008.1.2.4.112", "1.2.840.10008.1.2.4.112"),  # JPEG XL, newer than pydicom's dictionary
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, syntax: str, name: str):
    path = with_codestream(dicom(tmp_path / "a.dcm", RAMP), "1.2.840.10008.1.2.4.102", [bytes(100)])
    named = b"UI\x18\0" + b"1.2.840.10008.1.2.4.102\0"
    assert named in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(named, named[:4] + syntax.encode().ljust(24, b"\0")))
    with pytest.raises(UserError, match="are not read") as caught:
        read_image(path)
    assert name in caught.value.problem or "JPEG XL" in caught.value.problem
    assert "JPEG 2000 or uncompressed" in caught.value.remedy


@pytest.mark.parametrize("syntax", LOSSLESS, ids=LOSSLESS.values())
@pytest.mark.parametrize("damage", ["cut", "zeros", "empty"])
def test_damaged_codestreams_are_errors_in_one_line(tmp_path: Path, syntax: str, damage: str):
    path = compressed(dicom(tmp_path / "a.dcm", RAMP), syntax)
    frame = {"cut": first_frame(path)[:90], "zeros": bytes(500), "empty": b"\0\0"}[damage]
    with pytest.raises(UserError, match="the image cannot be decoded") as caught:
        read_image(with_codestream(path, syntax, [frame]))
    assert "\n" not in caught.value.problem and "copy it again" in caught.value.remedy


def test_a_picture_that_ends_its_decoder_does_not_end_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """GDCM 3.2 aborts where the marker of the Huffman tables is damaged."""
    path = compressed(dicom(tmp_path / "a.dcm", RAMP), "1.2.840.10008.1.2.4.70")
    codestream = first_frame(path)
    tables = codestream.index(b"\xff\xc4")
    damaged = codestream[:tables] + b"\0" + codestream[tables + 1 :]
    with pytest.raises(UserError, match="the image cannot be decoded: damaged JPEG Lossless"):
        read_image(with_codestream(path, "1.2.840.10008.1.2.4.70", [damaged]))
    with_codestream(path, "1.2.840.10008.1.2.4.70", [codestream])
    aborting = tmp_path / "aborting.py"
    aborting.write_text("import os; os.abort()")
    monkeypatch.setattr(gdcm_process, "__file__", str(aborting))
    with pytest.raises(UserError, match="the image cannot be decoded: damaged JPEG Lossless"):
        read_image(path)


def test_the_decoder_does_not_search_for_a_lost_end(tmp_path: Path):
    """CharLS takes seconds where the two bytes at the end are damaged."""
    path = compressed(dicom(tmp_path / "a.dcm", RAMP), "1.2.840.10008.1.2.4.80")
    codestream = first_frame(path).rstrip(b"\0")
    assert codestream.endswith(b"\xff\xd9")
    with pytest.raises(UserError, match="the image cannot be decoded: damaged JPEG-LS"):
        read_image(with_codestream(path, "1.2.840.10008.1.2.4.80", [codestream[:-2] + b"\xff\xdf"]))


def test_a_codestream_cannot_grow_beyond_its_fields(tmp_path: Path):
    """64 x 64 px by its fields, 20,000 x 20,000 px by its codestream: it is not decoded."""
    out = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(out, "JPEG")
    path = dicom(tmp_path / "a.dcm", RAMP.astype(np.uint8), BitsAllocated=8, BitsStored=8, HighBit=7)
    with pytest.raises(UserError, match="it has 20000 x 20000 px, its fields say 64 x 64 px"):
        read_image(with_codestream(path, JPEG, [out.getvalue()]))


def test_a_truncated_image_says_how_much_is_there(tmp_path: Path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"truncated \(6,192 of 8,192 bytes of pixels\)"):
        read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_headers_of_codestreams(kind: str):
    out = io.BytesIO()
    Image.fromarray(COLOURS).save(out, kind)
    found = read_codestream(out.getvalue())
    assert found is not None and (found.width_px, found.height_px, found.precision_bits) == (64, 32, 8)
    assert read_codestream(out.getvalue()[:20]) is None and read_codestream(b"") is None


def test_the_header_of_a_high_throughput_codestream():
    found = read_codestream(HTJ2K)
    assert found is not None and found.kind == "JPEG 2000"
    assert (found.width_px, found.height_px, found.precision_bits) == (16, 12, 16)
