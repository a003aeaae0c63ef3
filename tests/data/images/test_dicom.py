"""DICOM images, written by pydicom: window, inversion, 16 bits, colours, and what cannot be read."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import binary, sampled_from

from assertions import mistake
from dicom_files import RAMP, dicom, fields_alone, pydicom
from flawmap.data.images.dicom import dicom_gray_values, dicom_patient, is_dicom
from flawmap.data.images.files import decode_gray_values, decode_with_remarks, read_image
from flawmap.data.open_data import load_images
from flawmap.errors import UserError


def test_without_a_window_the_stored_bits_span_the_range(tmp_path: Path):
    pixels = read_image(dicom(tmp_path / "a.dcm", RAMP))
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels[..., 0], np.rint(RAMP / 4095 * 255)) and np.array_equal(pixels[..., 0], pixels[..., 2])


def test_a_dark_image_is_not_stretched(tmp_path: Path):
    assert read_image(dicom(tmp_path / "a.dcm", RAMP // 16)).max() == round(255 / 4095 * 255)


def test_a_full_16_bit_image_spans_the_range(tmp_path: Path):
    stored = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    pixels = read_image(dicom(tmp_path / "a.dcm", stored, BitsStored=16, HighBit=15))[..., 0]
    assert np.array_equal(pixels, np.rint(stored / 65535 * 255))


def test_values_outside_the_window_are_black_or_white(tmp_path: Path):
    pixels = read_image(dicom(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=1024))[..., 0].ravel()
    # PS3.3 C.11.2.1.2: all up to c - 0.5 - (w - 1) / 2 is black, all above c - 0.5 + (w - 1) / 2 white
    assert not pixels[: 1536 + 1].any() and (pixels[2559:] == 255).all()
    assert 0 < pixels[1550] < pixels[2048] < pixels[2550] < 255 and abs(int(pixels[2048]) - 128) <= 1


def test_the_first_of_several_windows_is_applied(tmp_path: Path):
    one = read_image(dicom(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=1024))
    two = read_image(dicom(tmp_path / "b.dcm", RAMP, WindowCenter=[2048, 100], WindowWidth=[1024, 50]))
    assert np.array_equal(one, two)


def test_the_window_is_in_rescaled_units(tmp_path: Path):
    plain = read_image(dicom(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=1024))
    rescaled = {
        "RescaleSlope": 2,
        "RescaleIntercept": -1000,
        "WindowCenter": 2048 * 2 - 1000 - 0.5,
        "WindowWidth": 2047,
    }
    assert np.abs(plain.astype(int) - read_image(dicom(tmp_path / "b.dcm", RAMP, **rescaled))).max() <= 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR_EXACT", [0, 0, 0.5, 1]),
        ("SIGMOID", [1 / (1 + np.exp(6)), 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2))]),
        ("", [0, 0, 50 / 99, 1]),  # empty means LINEAR
    ],
)
def test_window_functions(function: str, expected: list[float], tmp_path: Path):
    """PS3.3 C.11.2.1.3, at stored values 50, 150, 200 and 250 of a window with centre 200 and width 100."""
    window = {"WindowCenter": 200, "WindowWidth": 100, "VOILUTFunction": function}
    pixels = read_image(dicom(tmp_path / "a.dcm", RAMP, **window))[..., 0].ravel()
    assert np.abs(pixels[[50, 150, 200, 250]] - 255 * np.array(expected)).max() <= 0.501


def test_a_negative_slope_shows_high_stored_values_dark(tmp_path: Path):
    rescaled = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    for name, changes in (("a.dcm", rescaled), ("b.dcm", rescaled | window)):
        pixels = read_image(dicom(tmp_path / name, RAMP, **changes))[..., 0]
        assert np.abs(pixels - (4095 - RAMP.astype(int)) / 4095 * 255).max() <= 0.51


def test_a_voi_lookup_table_is_applied(tmp_path: Path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.add_new("LUTData", "US", (65535 - np.arange(4096) * 16).tolist())
    pixels = read_image(dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=[table]))[..., 0]
    assert np.array_equal(pixels, np.rint((65535 - RAMP.astype(int) * 16) / 65535 * 255))


def test_a_voi_lookup_table_maps_rescaled_values(tmp_path: Path):
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "SS", [1024, -1000, 16])
    table.add_new("LUTData", "US", (np.arange(1024) * 64).tolist())
    rescaled = {"RescaleSlope": 0.25, "RescaleIntercept": -1000}
    pixels = read_image(dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=[table], **rescaled))[..., 0]
    expected = np.rint(RAMP * 0.25).clip(0, 1023) * 64 / 65535 * 255
    assert np.array_equal(pixels, np.rint(expected))


def test_colours_of_a_palette(tmp_path: Path):
    tables = {}
    for colour, content in (("Red", np.arange(4096)), ("Green", np.arange(4096)[::-1]), ("Blue", np.zeros(4096))):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [4096, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = (content * 16).astype("<u2").tobytes()
    pixels = read_image(dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="PALETTE COLOR", **tables))
    assert np.array_equal(pixels[..., 0], RAMP // 16) and np.array_equal(pixels[..., 1], 255 - RAMP // 16)
    assert not pixels[..., 2].any()
    assert dicom_gray_values((tmp_path / "a.dcm").read_bytes(), 10**6) is None


def test_an_empty_window_is_ignored(tmp_path: Path):
    path = dicom(tmp_path / "a.dcm", RAMP, WindowCenter=None, WindowWidth=None)
    assert np.array_equal(read_image(path)[..., 0], np.rint(RAMP / 4095 * 255))


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path):
    window = {"WindowCenter": 2048, "WindowWidth": 1024}
    bright = read_image(dicom(tmp_path / "a.dcm", RAMP, **window))
    dark = read_image(dicom(tmp_path / "b.dcm", RAMP, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.array_equal(dark, 255 - bright)


def test_signed_values_begin_at_their_lowest(tmp_path: Path):
    stored = RAMP.astype(np.int16) - 2048
    pixels = read_image(dicom(tmp_path / "a.dcm", stored, PixelRepresentation=1))[..., 0]
    assert np.array_equal(pixels, np.rint(RAMP / 4095 * 255))


def test_colours_and_frames(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    eight_bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, **eight_bits}
    assert np.array_equal(read_image(dicom(tmp_path / "a.dcm", colours, **rgb)), colours)
    frames = np.stack([RAMP, RAMP[::-1]])
    first = read_image(dicom(tmp_path / "b.dcm", frames, NumberOfFrames=2))
    assert np.array_equal(first, read_image(dicom(tmp_path / "c.dcm", RAMP)))


def test_a_folder_of_dicom_files_is_a_data_set(tmp_path: Path):
    for number in range(3):
        dicom(tmp_path / "scans" / f"{number}.dcm", RAMP)
    assert [image.key for image in load_images(tmp_path / "scans").images] == ["0.dcm", "1.dcm", "2.dcm"]


def test_dicom_is_recognised_by_content_not_by_name(tmp_path: Path):
    path = dicom(tmp_path / "a.dcm", RAMP).rename(tmp_path / "a.png")
    assert is_dicom(path.read_bytes()) and read_image(path).shape == (64, 64, 3)


def test_without_pydicom_the_remedy_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = dicom(tmp_path / "a.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with mistake("DICOM needs the package pydicom", path, 'pip install "pydicom>=3.0.1"'):
        read_image(path)


def test_a_folder_called_dl_does_not_break_the_decoders(tmp_path: Path):
    """GDCM imports ``dl`` on its way, a module of Python 2."""
    path = dicom(tmp_path / "a.dcm", RAMP)
    (tmp_path / "dl").mkdir()
    code = f"from flawmap.data.images.files import read_image; print(read_image({str(path)!r}).shape)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("(64, 64, 3)", 0), done.stderr


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"Modality": "SR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "Structured Report"),
        ({"Modality": "KO"}, "Key Object Selection"),
        ({"Modality": "PR"}, "Presentation State"),
        ({"Modality": "RTSTRUCT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3"}, "RT Structure Set"),
        ({"Modality": "DOC", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "Encapsulated PDF"),
        ({"Modality": "DX"}, "Digital X-Ray Image - For Presentation"),
    ],
)
def test_a_file_without_an_image_says_what_it_is(tmp_path: Path, fields: dict, name: str):
    path = dicom(tmp_path / "a.dcm", None, **fields)
    with mistake(f"a DICOM file without an image ({name})", path, "move it to another folder"):
        read_image(path)


def test_a_file_that_lost_its_pixels_or_is_too_large(tmp_path: Path):
    empty = dicom(tmp_path / "a.dcm", RAMP, PixelData=b"")
    problem = "a DICOM file without its pixels (Digital X-Ray Image - For Presentation): truncated or stripped"
    with mistake(problem, empty, "copy it again"):
        read_image(empty)
    huge = dicom(tmp_path / "b.dcm", RAMP, Rows=60_000, Columns=60_000, NumberOfFrames=3)
    with mistake("60000 x 60000 px is more than 170,000,000 pixels", huge, "cut it into tiles"):
        read_image(huge)


def test_the_list_of_a_medium_is_named(tmp_path: Path):
    path = tmp_path / "DICOMDIR"
    fields = pydicom.Dataset()
    fields.FileSetID, fields.DirectoryRecordSequence = "MEDIUM", []
    fields.file_meta = pydicom.dataset.FileMetaDataset()
    fields.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    fields.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    fields.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    fields.save_as(path, enforce_file_format=True)
    assert is_dicom(path.read_bytes()[:512])
    with mistake("a DICOMDIR, the list of a medium's files and no image", path, "move it to another folder"):
        read_image(path)


def test_a_damaged_file_is_an_error_with_its_name(tmp_path: Path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="cannot be decoded") as caught:
        read_image(path)
    assert caught.value.place == str(path)


def test_other_files_are_not_taken_for_dicom():
    for data in (b"", b"DICM", b"\0" * 200, io.BytesIO(b"\x89PNG" * 100).getvalue()):
        assert not is_dicom(data)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("little_endian", [True, False])
def test_fields_alone_are_recognised_and_read(tmp_path: Path, implicit: bool, little_endian: bool):
    """Old archives and network dumps have neither preamble nor file meta information."""
    if implicit and not little_endian:
        return  # there is no such encoding
    stored = RAMP if little_endian else RAMP.byteswap()
    path = dicom(tmp_path / "a.dcm", stored)
    path.write_bytes(fields_alone(path, implicit, little_endian))
    assert is_dicom(path.read_bytes()[:512])
    assert np.array_equal(read_image(path)[..., 0], np.rint(RAMP / 4095 * 255))


@pytest.mark.parametrize("kept", ["DICM and file meta information", "file meta information"])
def test_the_preamble_may_be_missing(tmp_path: Path, kept: str):
    path = dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[128 if kept.startswith("DICM") else 132 :])
    assert is_dicom(path.read_bytes()[:512])
    assert np.array_equal(read_image(path)[..., 0], np.rint(RAMP / 4095 * 255))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((32, 32), np.uint16),
        np.full((32, 32), 8, np.uint16),
        np.arange(8, 1032, dtype=np.uint16),
        np.tile(np.array([8, 5, 0, 0], np.uint16), 64),
        np.array([[2, 0], [8, 1]], np.int64),
    ],
)
def test_raw_pixels_and_numbers_are_not_taken_for_dicom(image: np.ndarray):
    assert not is_dicom(image.tobytes())


@given(binary(max_size=64), sampled_from([b"", b"\x08\0", b"\x02\0", b"\x08\0\x05\0CS", b"\x08\0\x08\0\x02\0\0\0"]))
def test_few_bytes_are_not_taken_for_dicom(tail: bytes, head: bytes):
    """Up to a first field made up by intent; a second and a third one are not hit by chance."""
    assert not is_dicom(head + tail)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_gray_values_in_their_window_are_what_the_model_sees(tmp_path: Path, function: str, photometric: str):
    changes = {"WindowCenter": 900, "WindowWidth": 400, "RescaleSlope": 2, "RescaleIntercept": -100}
    path = dicom(tmp_path / "a.dcm", RAMP, VOILUTFunction=function, PhotometricInterpretation=photometric, **changes)
    deep = decode_gray_values(path.read_bytes())
    assert deep is not None and np.array_equal(deep.values, 2.0 * RAMP - 100)
    black, white = deep.window
    shown = np.rint(((deep.values - black) / (white - black)).clip(0, 1) * 255)
    assert (black > white) == (photometric == "MONOCHROME1")
    assert np.abs(shown - read_image(path)[..., 0].astype(float)).max() <= 1  # halves may be rounded either way


def test_gray_values_without_a_window_have_the_range_of_the_bits(tmp_path: Path):
    deep = decode_gray_values(dicom(tmp_path / "a.dcm", RAMP).read_bytes())
    assert deep is not None and deep.window == (0, 4095) and deep.values.max() == 4095


def test_colours_and_8_bits_have_no_further_gray_values(tmp_path: Path):
    colours = np.zeros((4, 4, 3), np.uint8)
    changes = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    assert decode_gray_values(dicom(tmp_path / "c.dcm", colours, **changes, **bits).read_bytes()) is None
    assert decode_gray_values(dicom(tmp_path / "g.dcm", np.zeros((4, 4), np.uint8), **bits).read_bytes()) is None


@pytest.mark.parametrize(("number", "patient"), [("P 12 ", "P 12"), ("0012", "0012"), ("", None), (None, None)])
def test_the_patient_of_a_file(number: str | None, patient: str | None, tmp_path: Path):
    path = dicom(tmp_path / "a.dcm", RAMP, **({} if number is None else {"PatientID": number}))
    assert dicom_patient(path.read_bytes()) == patient
    assert dicom_patient(fields_alone(path, implicit=True)) == patient


def test_writing_in_the_image_is_remarked(tmp_path: Path):
    for value, is_remarked in (("YES", True), ("NO", False)):
        path = dicom(tmp_path / "a.dcm", RAMP, BurnedInAnnotation=value)
        remarks = decode_with_remarks(path.read_bytes()).remarks
        assert any("BurnedInAnnotation" in remark for remark in remarks) is is_remarked


def test_a_deflated_file_is_refused_before_it_can_grow(tmp_path: Path):
    """A few kilobytes may inflate to gigabytes, which pydicom would do to read the first field."""
    path = dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    with mistake("a deflated DICOM file is not read", path, "save it with its pixels compressed"):
        read_image(path)


def test_only_one_of_many_frames_is_decoded(tmp_path: Path):
    """The others are damaged, which nothing notices."""
    from pydicom.encaps import encapsulate, generate_frames

    path = dicom(tmp_path / "a.dcm", np.stack([RAMP + number for number in range(3)]), NumberOfFrames=3)
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless)
    first, *others = generate_frames(dataset.PixelData, number_of_frames=3)
    dataset.PixelData = encapsulate([first, *(b"damaged!" for _ in others)])
    dataset.save_as(path, enforce_file_format=True)
    assert np.array_equal(read_image(path)[..., 0], np.rint(RAMP / 4095 * 255))
