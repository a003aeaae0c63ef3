"""From stored DICOM values to gray levels: odd windows, tables, padding, inversion, enhanced files, little contrast."""

from pathlib import Path

import numpy as np
import pytest

from dicom_files import ALL_12_BITS, EIGHT_BITS, RAMP, SIXTEEN_BITS, dicom, item, table
from flawmap.data.images.files import DecodedImage, decode_gray_values, decode_with_remarks
from flawmap.errors import UserError

PLAIN = np.rint(RAMP / 4095 * 255)


def read(path: Path) -> DecodedImage:
    return decode_with_remarks(path.read_bytes(), place=str(path))


def gray(path: Path) -> np.ndarray:
    return read(path).pixels[..., 0]


def in_viewer(path: Path) -> np.ndarray:
    """What a viewer shows that takes the values and the window as they are."""
    deep = decode_gray_values(path.read_bytes())
    assert deep is not None
    black, white = deep.window
    return np.rint(((deep.values.astype(np.float64) - black) / (white - black)).clip(0, 1) * 255)


def linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1."""
    return np.rint(((values - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1) * 255)


@pytest.mark.parametrize(
    ("written", "centre", "width"),
    [
        ({"WindowCenter": b"900.5", "WindowWidth": b"400.25"}, 900.5, 400.25),
        ({"WindowCenter": b"900,5", "WindowWidth": b"400,25"}, 900.5, 400.25),
        ({"WindowCenter": b"9.005E2", "WindowWidth": b"+400.25"}, 900.5, 400.25),
        ({"WindowCenter": b"900.5\\40", "WindowWidth": b"400.25\\80"}, 900.5, 400.25),
        ({"WindowCenter": b"40\\900.5", "WindowWidth": b"0\\400.25"}, 900.5, 400.25),
    ],
)
def test_numbers_of_windows_in_any_spelling(tmp_path: Path, written: dict[str, bytes], centre: float, width: float):
    path = dicom(tmp_path / "a.dcm", RAMP, WindowCenter="11111111", WindowWidth="22222222222")
    data = path.read_bytes()
    for mark, size, value in ((b"11111111", 8, written["WindowCenter"]), (b"22222222222 ", 12, written["WindowWidth"])):
        data = data.replace(mark, value.ljust(size))
    path.write_bytes(data)
    assert np.array_equal(gray(path), linear(RAMP, centre, width))


@pytest.mark.parametrize("width", [0, -5])
def test_a_window_without_width_is_left_out(tmp_path: Path, width: int):
    image = read(dicom(tmp_path / "a.dcm", RAMP, WindowCenter=5, WindowWidth=width))
    assert np.array_equal(image.pixels[..., 0], PLAIN)
    assert image.remarks == (f"a window of width {width} is left out",)


def test_a_window_of_width_1_is_a_threshold_and_says_so(tmp_path: Path):
    path = dicom(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=1)
    image = read(path)
    assert np.array_equal(image.pixels[..., 0], (RAMP > 2047.5) * 255) and np.array_equal(in_viewer(path), gray(path))
    (remark,) = image.remarks
    assert "centre 2048, width 1" in remark and "100% of the pixels black or white, for values of 0 to 4095" in remark


def test_a_width_below_1_needs_values_between_integers(tmp_path: Path):
    """LINEAR has no meaning there by the standard; files of small rescaled values mean LINEAR_EXACT."""
    scaled = {"RescaleSlope": 1 / 8192, "RescaleIntercept": 0}
    path = dicom(tmp_path / "a.dcm", RAMP, WindowCenter=0.25, WindowWidth=0.5, **scaled)
    assert np.array_equal(gray(path), np.rint(RAMP / 4096 * 255)) and np.array_equal(in_viewer(path), gray(path))


def test_a_window_beside_all_values_says_so(tmp_path: Path):
    (remark,) = read(dicom(tmp_path / "a.dcm", RAMP // 8, WindowCenter=3000, WindowWidth=100)).remarks
    assert "100% of the pixels black or white, for values of 0 to 511" in remark


def test_black_and_white_inside_the_window_are_no_fault_of_it(tmp_path: Path):
    image = read(dicom(tmp_path / "a.dcm", RAMP // 2048 * 4095, **ALL_12_BITS))
    assert image.remarks == () and set(np.unique(image.pixels)) == {0, 255}


def test_an_unknown_window_function_is_linear_and_says_so(tmp_path: Path):
    path = dicom(tmp_path / "a.dcm", RAMP, VOILUTFunction="CUBIC", WindowCenter=900, WindowWidth=400)
    assert np.array_equal(gray(path), linear(RAMP, 900, 400))
    assert read(path).remarks == ("VOILUTFunction CUBIC is taken as LINEAR",)


@pytest.mark.parametrize(
    ("fields", "slope", "intercept"),
    [
        ({"RescaleSlope": None, "RescaleIntercept": -1024}, 1, -1024),
        ({"RescaleSlope": 2, "RescaleIntercept": None}, 2, 0),
        ({"RescaleSlope": None, "RescaleIntercept": None}, 1, 0),
        ({"RescaleIntercept": 100}, 1, 100),
        ({"RescaleSlope": 0, "RescaleIntercept": 100}, 1, 100),
    ],
)
def test_empty_or_missing_rescaling(tmp_path: Path, fields: dict, slope: float, intercept: float):
    path = dicom(tmp_path / "a.dcm", RAMP, WindowCenter=900, WindowWidth=800, **fields)
    assert np.array_equal(gray(path), linear(RAMP * slope + float(intercept), 900, 800))
    assert np.abs(in_viewer(path) - gray(path)).max() <= 1
    assert read(path).remarks == (("RescaleSlope 0 is taken as 1",) if fields.get("RescaleSlope") == 0 else ())


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_lookup_tables_of_any_depth(tmp_path: Path, bits: int, as_bytes: bool):
    """Of 4096 entries: with 8 bits an entry, pydicom's own function takes the input modulo 256."""
    values = np.arange(4096)[::-1] >> max(12 - bits, 0) << max(bits - 12, 0)
    content = values.astype("u1" if bits == 8 else "<u2").tobytes() if as_bytes else values.tolist()
    expected = np.rint(values[RAMP] / (2**bits - 1) * 255)
    voi = dicom(tmp_path / "voi.dcm", RAMP, VOILUTSequence=[table(content, 0, bits)], **ALL_12_BITS)
    assert np.array_equal(gray(voi), expected)
    modality = table(content, 0, bits, ModalityLUTType="US")
    assert np.array_equal(gray(dicom(tmp_path / "modality.dcm", RAMP, ModalityLUTSequence=[modality])), expected)


def test_a_lookup_table_that_shows_little_says_so(tmp_path: Path):
    """Declared with 16 bits, filled with 12."""
    (remark,) = read(dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=[table(list(range(4096)), 0, 16)])).remarks
    assert remark == "its lookup table shows the image with 17 of 256 gray levels"


def test_a_damaged_lookup_table_is_named(tmp_path: Path):
    path = dicom(tmp_path / "a.dcm", RAMP, ModalityLUTSequence=[table(list(range(9)), 0, 16)])
    nine, more = b"US\6\0\x09\0\0\0", b"US\6\0\x63\0\0\0"
    assert nine in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(nine, more))
    with pytest.raises(UserError, match="a lookup table of the file is damaged"):
        read(path)


@pytest.mark.parametrize(
    ("fields", "is_inverted"),
    [
        ({}, False),
        ({"PresentationLUTShape": "IDENTITY"}, False),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),  # one and the same
    ],
)
def test_inversion(tmp_path: Path, fields: dict, is_inverted: bool):
    path = dicom(tmp_path / "a.dcm", RAMP, **ALL_12_BITS, **fields)
    expected = linear(RAMP, 2048, 4096)
    assert np.array_equal(gray(path), 255 - expected if is_inverted else expected)
    assert np.abs(in_viewer(path) - gray(path)).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 900, "WindowWidth": 400}])
@pytest.mark.parametrize(
    ("padding", "inside"),
    [
        ({"PixelPaddingValue": 0}, RAMP == 0),
        ({"PixelPaddingValue": 4095}, RAMP == 4095),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 99}, RAMP <= 99),
        ({"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4000}, RAMP >= 4000),
    ],
)
def test_padding_is_black(tmp_path: Path, photometric: str, window: dict, padding: dict, inside: np.ndarray):
    path = dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation=photometric, **window, **padding)
    plain = gray(dicom(tmp_path / "b.dcm", RAMP, PhotometricInterpretation=photometric, **window))
    assert not gray(path)[inside].any() and np.array_equal(gray(path)[~inside], plain[~inside])
    assert np.abs(in_viewer(path) - gray(path)).max() <= 1


@pytest.mark.parametrize("padding", [-2000, 63536])  # the second is how -2000 looks if written without a sign
def test_padding_below_all_values_is_left_out_of_what_the_remark_counts(tmp_path: Path, padding: int):
    stored = (RAMP.astype(np.int16) // 4) - 500
    stored[:8] = -2000
    path = dicom(tmp_path / "a.dcm", stored, PixelRepresentation=1, **SIXTEEN_BITS)
    import pydicom

    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US" if padding > 0 else "SS", padding)
    dataset.save_as(path)
    image = read(path)
    assert not image.pixels[:8].any()
    expected = np.rint((stored[8:] + 32768.0) / 65535 * 255)
    assert np.array_equal(image.pixels[8:, :, 0], expected) and np.array_equal(in_viewer(path)[8:], expected)
    assert image.remarks == (
        "no window fixes its gray scale, so its bits do: values -372 to 523 of -32768 to 32767, 5 of 256 gray levels; "
        "write one window that fits all images into all files (this one: WindowCenter 76, WindowWidth 896)",
    )


def test_padding_above_the_stored_bits(tmp_path: Path):
    """63536 of 16 bits in an image of 12: the bits above tell it from the value 2096, which has the same lower ones."""
    stored = np.where(RAMP < 64, np.uint16(63536), RAMP)
    image = read(dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=63536, **ALL_12_BITS))
    expected = np.where(RAMP < 64, 0, linear(RAMP, 2048, 4096))
    assert np.array_equal(image.pixels[..., 0], expected) and expected[RAMP == 2096] > 0


def test_only_padding_says_so(tmp_path: Path):
    image = read(dicom(tmp_path / "a.dcm", RAMP * 0, PixelPaddingValue=0))
    assert image.remarks == ("all pixels are padding",) and not image.pixels.any()


@pytest.mark.parametrize("scale", [1, 2, 8])
def test_little_contrast_is_remarked_and_never_stretched(tmp_path: Path, scale: int):
    image = read(dicom(tmp_path / "a.dcm", RAMP // scale))
    assert np.array_equal(image.pixels[..., 0], np.rint(RAMP // scale / 4095 * 255))
    assert bool(image.remarks) == (scale == 8)
    assert all("33 of 256 gray levels" in remark and "WindowWidth 512" in remark for remark in image.remarks)


def test_the_window_of_the_remark_helps(tmp_path: Path):
    (remark,) = read(dicom(tmp_path / "a.dcm", RAMP // 16, BitsStored=16, HighBit=15)).remarks
    centre, width = (float(part.split()[0].rstrip(",)")) for part in remark.split("Window")[1:3] for part in [part[6:]])
    image = read(dicom(tmp_path / "b.dcm", RAMP // 16, WindowCenter=centre, WindowWidth=width, **SIXTEEN_BITS))
    assert image.remarks == () and (image.pixels.min(), image.pixels.max()) == (0, 255)


def groups(**fields: object) -> list:
    """A functional group whose macros have one item each."""
    return [item(**{name: [item(**content)] for name, content in fields.items()})]  # type: ignore[arg-type]


VOI, CHANGE = "FrameVOILUTSequence", "PixelValueTransformationSequence"


@pytest.mark.parametrize(
    ("own", "shared", "centre", "slope"),
    [
        ({VOI: {"WindowCenter": 900, "WindowWidth": 400}}, {}, 900, 1),
        ({}, {VOI: {"WindowCenter": 900, "WindowWidth": 400}}, 900, 1),
        ({VOI: {"WindowCenter": 900, "WindowWidth": 400}}, {VOI: {"WindowCenter": 9, "WindowWidth": 9}}, 900, 1),
        (
            {CHANGE: {"RescaleSlope": 2, "RescaleIntercept": 0}},
            {VOI: {"WindowCenter": 900, "WindowWidth": 400}},
            900,
            2,
        ),
        ({}, {CHANGE: {"RescaleSlope": 2, "RescaleIntercept": 0}}, 50, 2),
        ({VOI: {"WindowCenter": None, "WindowWidth": None}}, {}, 50, 1),
    ],
)
def test_windows_and_slopes_of_functional_groups(tmp_path: Path, own: dict, shared: dict, centre: int, slope: int):
    """Those of the first frame, then those of all frames, then the file's own."""
    other = groups(**{VOI: {"WindowCenter": 3, "WindowWidth": 3}, CHANGE: {"RescaleSlope": 7, "RescaleIntercept": 7}})
    enhanced = {
        "NumberOfFrames": 2,
        "PerFrameFunctionalGroupsSequence": groups(**own) + other,
        "SharedFunctionalGroupsSequence": groups(**shared),
    }
    stored = np.stack([RAMP, RAMP[::-1]])
    path = dicom(tmp_path / "a.dcm", stored, WindowCenter=50, WindowWidth=400, **enhanced)
    assert np.array_equal(gray(path), linear(RAMP * float(slope), centre, 400))
    assert np.abs(in_viewer(path) - gray(path)).max() <= 1
    assert read(path).remarks[0] == "2 frames; the first is read"


def test_a_lookup_table_of_a_functional_group(tmp_path: Path):
    own = groups(**{VOI: {"VOILUTSequence": [table((np.arange(4096)[::-1] * 16).tolist(), 0, 16)]}})
    path = dicom(tmp_path / "a.dcm", RAMP, PerFrameFunctionalGroupsSequence=own, **ALL_12_BITS)
    assert np.array_equal(gray(path), np.rint((4095 - RAMP) * 16.0 / 65535 * 255))


@pytest.mark.parametrize(("count", "entry_bits"), [(4096, 16), (4096, 8), (256, 8)])
@pytest.mark.parametrize("word_bits", [8, 16])
def test_palettes_of_8_bit_entries_in_words_of_16(tmp_path: Path, count: int, entry_bits: int, word_bits: int):
    tables = {}
    content = np.arange(count) * 256 // count  # 0 to 255
    for colour, values in (("Red", content), ("Green", content[::-1]), ("Blue", content * 0)):
        words = values.astype(f"<u{word_bits // 8}").tobytes()
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [count, 0, entry_bits]
        tables[f"{colour}PaletteColorLookupTableData"] = words
    indices = RAMP * count // 4096 if count == 256 else RAMP
    image = read(dicom(tmp_path / "a.dcm", indices, PhotometricInterpretation="PALETTE COLOR", **tables)).pixels
    assert np.array_equal(image[..., 0], content[indices]) and np.array_equal(image[..., 1], content[::-1][indices])
    assert not image[..., 2].any()


def test_an_image_without_its_palette_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="the image has no palette"):
        read(dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="PALETTE COLOR"))


FLOAT = {"PixelData": b"", "BitsAllocated": 32}


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_floats_from_0_to_1_have_a_fixed_scale(tmp_path: Path, keyword: str, photometric: str):
    kind = np.float32 if keyword == "FloatPixelData" else np.float64
    stored = (RAMP / 8190).astype(kind)  # 0 to 0.5
    fields = {keyword: stored.tobytes(), "PhotometricInterpretation": photometric}
    path = dicom(tmp_path / "a.dcm", RAMP, **{**FLOAT, "BitsAllocated": 8 * kind().itemsize}, **fields)
    expected = np.rint(stored.astype(np.float64) * 255)
    assert np.array_equal(gray(path), 255 - expected if photometric == "MONOCHROME1" else expected)
    assert np.abs(in_viewer(path) - gray(path)).max() <= 1


def test_other_floats_need_a_window(tmp_path: Path):
    stored = RAMP.astype(np.float32) / 100 - 10
    with pytest.raises(UserError, match=r"a DICOM image of floats from -10 to 30\.95 has no window"):
        read(dicom(tmp_path / "a.dcm", RAMP, FloatPixelData=stored.tobytes(), **FLOAT))
    window = {"WindowCenter": 10, "WindowWidth": 5, "VOILUTFunction": "LINEAR_EXACT"}
    path = dicom(tmp_path / "b.dcm", RAMP, FloatPixelData=stored.tobytes(), **window, **FLOAT)
    assert np.array_equal(gray(path), np.rint(((stored.astype(np.float64) - 7.5) / 5).clip(0, 1) * 255))


def test_floats_may_be_padded_with_a_number_or_with_nan(tmp_path: Path):
    for name, value in (("a.dcm", -9.0), ("b.dcm", np.nan)):
        stored = np.where(RAMP < 64, value, RAMP / 4095).astype(np.float32)
        path = dicom(tmp_path / name, RAMP, FloatPixelData=stored.tobytes(), FloatPixelPaddingValue=value, **FLOAT)
        expected = np.where(RAMP < 64, 0, np.rint((RAMP / 4095).astype(np.float32).astype(np.float64) * 255))
        assert np.array_equal(gray(path), expected) and np.abs(in_viewer(path) - expected).max() <= 1
    with pytest.raises(UserError, match="not finite"):
        read(dicom(tmp_path / "c.dcm", RAMP, FloatPixelData=stored.tobytes(), **FLOAT))


def test_8_bits_have_their_own_padding_and_range(tmp_path: Path):
    stored = (RAMP % 256).astype(np.uint8)
    path = dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=255, **EIGHT_BITS)
    assert np.array_equal(gray(path), np.where(stored == 255, 0, stored))
