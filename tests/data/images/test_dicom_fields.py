"""DICOM files that leave out fields of their pixels, or contradict themselves."""

from pathlib import Path

import numpy as np
import pytest

from dicom_files import ALL_12_BITS, EIGHT_BITS, MISSING, RAMP, RGB, SIXTEEN_BITS, dicom
from flawmap.data.images.files import decode_with_remarks
from flawmap.errors import UserError

PLAIN = np.rint(RAMP / 4095 * 255)
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("left_out", "taken"),
    [
        ({"PhotometricInterpretation": MISSING}, "PhotometricInterpretation as MONOCHROME2"),
        ({"PhotometricInterpretation": ""}, "PhotometricInterpretation as MONOCHROME2"),
        ({"SamplesPerPixel": MISSING}, "SamplesPerPixel as 1"),
        ({"SamplesPerPixel": None}, "SamplesPerPixel as 1"),
        ({"BitsStored": MISSING}, "BitsStored as 12"),
        ({"BitsStored": 0}, "BitsStored as 12"),
        ({"BitsStored": 17}, "BitsStored as 12"),
        ({"BitsAllocated": MISSING}, "BitsAllocated as 16"),
        ({"PixelRepresentation": MISSING}, "PixelRepresentation as 0"),
        (
            {"PhotometricInterpretation": MISSING, "SamplesPerPixel": MISSING, "PixelRepresentation": MISSING},
            "SamplesPerPixel as 1, PhotometricInterpretation as MONOCHROME2, PixelRepresentation as 0",
        ),
        ({"HighBit": MISSING}, None),  # one less than BitsStored, always
    ],
)
def test_missing_fields_are_filled_in_and_named(tmp_path: Path, left_out: dict, taken: str | None):
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", RAMP, **left_out).read_bytes())
    assert np.array_equal(image.pixels[..., 0], PLAIN)
    assert image.remarks == (() if taken is None else (f"fields are missing or invalid; taken: {taken}",))


@pytest.mark.parametrize("left_out", ["PlanarConfiguration", "PhotometricInterpretation", "SamplesPerPixel"])
def test_missing_fields_of_colours(tmp_path: Path, left_out: str):
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", COLOURS, **{**RGB, left_out: MISSING}).read_bytes())
    assert np.array_equal(image.pixels, COLOURS) and left_out in image.remarks[0]


def test_one_sample_of_a_colour_is_gray_or_three(tmp_path: Path):
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="YBR_FULL").read_bytes())
    assert np.array_equal(image.pixels[..., 0], PLAIN)
    assert image.remarks == ("fields are missing or invalid; taken: PhotometricInterpretation as MONOCHROME2",)
    image = decode_with_remarks(dicom(tmp_path / "b.dcm", COLOURS, **{**RGB, "SamplesPerPixel": 1}).read_bytes())
    assert np.array_equal(image.pixels, COLOURS)
    assert image.remarks == ("fields are missing or invalid; taken: SamplesPerPixel as 3",)


@pytest.mark.parametrize(
    ("changes", "problem", "remedy"),
    [
        ({"Rows": MISSING}, "does not give its size", "export it again"),
        ({"Columns": 0}, "does not give its size", "export it again"),
        ({"BitsAllocated": 12}, "containers of 12 bits", "8 or 16 bits"),
        ({"SamplesPerPixel": 4, "PhotometricInterpretation": "CMYK"}, "4 samples as CMYK", "save it as RGB"),
        (
            {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_PARTIAL_420"},
            "as YBR_PARTIAL_420",
            "save it as RGB",
        ),
        ({"SamplesPerPixel": 2}, "2 samples", "save it as RGB"),
        (
            {"SamplesPerPixel": 3, "PhotometricInterpretation": "PALETTE COLOR"},
            "3 samples as PALETTE",
            "save it as RGB",
        ),
    ],
)
def test_what_cannot_be_filled_in_is_named(tmp_path: Path, changes: dict, problem: str, remedy: str):
    path = dicom(tmp_path / "a.dcm", RAMP, **changes)
    with pytest.raises(UserError, match=problem) as caught:
        decode_with_remarks(path.read_bytes(), place=str(path))
    assert remedy in caught.value.remedy and caught.value.place == str(path)


def test_values_beyond_bits_stored_are_read_if_the_window_is_there_too(tmp_path: Path):
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", RAMP, BitsStored=10, HighBit=9, **ALL_12_BITS).read_bytes())
    assert np.array_equal(image.pixels[..., 0], PLAIN)
    assert image.remarks == ("BitsStored is 10, but the window goes up to 4095; 12 bits are read",)


def test_values_beyond_bits_stored_are_left_out_and_named_without_a_window(tmp_path: Path):
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", RAMP, BitsStored=10, HighBit=9).read_bytes())
    assert np.array_equal(image.pixels[..., 0], np.rint(RAMP % 1024 / 1023 * 255))
    assert image.remarks == ("bits above the 10 stored ones are set in 75.00% of the pixels and left out",)


def test_unsigned_values_flagged_as_signed(tmp_path: Path):
    stored = RAMP * np.uint16(16)
    window = {"WindowCenter": 32768, "WindowWidth": 65536}
    image = decode_with_remarks(
        dicom(tmp_path / "a.dcm", stored, PixelRepresentation=1, **window, **SIXTEEN_BITS).read_bytes()
    )
    assert np.array_equal(image.pixels[..., 0], np.rint(stored / 65535.0 * 255))
    assert len(image.remarks) == 1 and "they are read as unsigned" in image.remarks[0]


def test_a_window_far_from_all_bits_changes_no_field(tmp_path: Path):
    """A centre that no reading of the bits explains says nothing about them."""
    window = {"WindowCenter": 10_000_000, "WindowWidth": 100}
    (remark,) = decode_with_remarks(dicom(tmp_path / "a.dcm", RAMP, **window).read_bytes()).remarks
    assert "100% of the pixels black or white" in remark


@pytest.mark.parametrize("frames", [2, 5])
def test_frames_are_counted(tmp_path: Path, frames: int):
    stored = np.stack([np.roll(RAMP, 16 * number) for number in range(frames)])
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", stored, NumberOfFrames=frames).read_bytes())
    assert np.array_equal(image.pixels[..., 0], PLAIN) and image.remarks == (f"{frames} frames; the first is read",)


@pytest.mark.parametrize("frames", [0, None])
def test_no_number_of_frames_is_one(tmp_path: Path, frames: int | None):
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", RAMP, NumberOfFrames=frames).read_bytes())
    assert np.array_equal(image.pixels[..., 0], PLAIN) and image.remarks == ()


def test_frames_that_the_file_does_not_count_are_remarked(tmp_path: Path):
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP])).read_bytes())
    assert image.remarks == ("8,192 bytes follow the pixels and are left out",)


def test_a_first_frame_is_enough(tmp_path: Path):
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", RAMP, NumberOfFrames=3).read_bytes())
    assert np.array_equal(image.pixels[..., 0], PLAIN)
    assert image.remarks == ("3 frames; the first is read", "the frames after the first are truncated")


def test_one_bit_per_pixel(tmp_path: Path):
    stored = np.random.default_rng(0).integers(0, 2, (9, 7), dtype=np.uint8)
    packed = np.packbits(stored, axis=None, bitorder="little")
    bits = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "Rows": 9, "Columns": 7}
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", packed[None], **bits).read_bytes())
    assert np.array_equal(image.pixels[..., 0], stored * 255)


def test_32_bits_and_8_signed_bits(tmp_path: Path):
    deep = RAMP.astype(np.uint32) * 1_048_576
    bits = {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}
    image = decode_with_remarks(dicom(tmp_path / "a.dcm", deep, **bits).read_bytes())
    assert np.array_equal(image.pixels[..., 0], np.rint(deep / (2.0**32 - 1) * 255)) and image.remarks == ()
    stored = (RAMP % 256).astype(np.uint8).view(np.int8)
    image = decode_with_remarks(dicom(tmp_path / "b.dcm", stored, PixelRepresentation=1, **EIGHT_BITS).read_bytes())
    assert np.array_equal(image.pixels[..., 0], stored.astype(int) + 128)
