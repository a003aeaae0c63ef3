"""TIFF: every number type, channel, polarity, layout and page, against what the standard says that they mean."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from assertions import explained, mistake
from flawmap.data.images.files import decode_gray_values, decode_image, decode_upright, decode_with_remarks
from flawmap.errors import UserError
from images import noise, texture
from tiff_files import TiffPage, tiff

GRAY = np.random.default_rng(1).integers(0, 256, (21, 37), dtype=np.uint8)
RGB_IMAGE = noise(2, 21, 37)
GRAY_AS_RGB = np.repeat(GRAY[..., None], 3, axis=2)
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
EXTRA_SAMPLES, NEW_SUBFILE_TYPE = 338, 254
REDUCED = {NEW_SUBFILE_TYPE: (4, [1])}


def stored(gray: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers of a type that mean these 8-bit grays."""
    if np.dtype(dtype).kind == "f":
        return (gray / 255).astype(dtype)
    return gray.astype(dtype) if np.dtype(dtype).itemsize == 1 else gray.astype(dtype) * 257


def told(data: bytes) -> UserError:
    return explained(lambda: decode_image(data, place="part.tif"))


# ---- number types


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i4", "i8", "f2", "f4", "f8"])
def test_numbers_of_every_type_mean_the_same_grays(dtype: str, order: str):
    assert np.array_equal(decode_image(tiff(TiffPage(stored(GRAY, dtype)), order=order)), GRAY_AS_RGB)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f2", "f4", "f8"])
def test_colours_of_every_type_mean_the_same(dtype: str, order: str):
    data = tiff(TiffPage(stored(RGB_IMAGE, dtype), RGB), order=order)
    assert np.array_equal(decode_image(data), RGB_IMAGE)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8"])
def test_white_is_zero_is_inverted_whatever_the_type(dtype: str, order: str):
    white = 1 if dtype.startswith("f") else np.iinfo(dtype).max
    inverted = (white - stored(GRAY, dtype)).astype(dtype)
    for page in (TiffPage(inverted, WHITE_IS_ZERO), TiffPage(inverted, WHITE_IS_ZERO, deflate=True)):
        assert np.abs(decode_image(tiff(page, order=order)).astype(int) - GRAY_AS_RGB).max() == 0


@pytest.mark.parametrize("compression", [None, "group4", "group3", "tiff_ccitt", "tiff_lzw"])
def test_two_levels_are_not_inverted_twice(compression: str | None):
    is_white = GRAY > 99
    for photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        file = io.BytesIO()
        options = {"compression": compression} if compression else {}
        Image.fromarray(is_white).save(file, "TIFF", tiffinfo={262: photometric}, **options)
        assert np.array_equal(decode_image(file.getvalue())[..., 1], np.where(is_white, 255, 0))


@pytest.mark.parametrize("dtype", ["i1", "i2"])
def test_signed_numbers_that_are_not_negative_are_read_as_unsigned_ones_are(dtype: str):
    small = (GRAY // 2).astype(dtype)
    unsigned = small.astype(dtype.replace("i", "u"))
    assert np.array_equal(decode_image(tiff(TiffPage(small))), decode_image(tiff(TiffPage(unsigned))))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (GRAY.astype("i2") - 100, "1 channel of 16-bit signed integers from -100 to 155"),
        ((GRAY.astype("i2") - 128).astype("i1"), "1 channel of 8-bit signed integers from -128 to 127"),
        (GRAY.astype("u4") * 1_000_000, "1 channel of 32-bit unsigned integers from 0 to 255,000,000"),
        (GRAY.astype("i4"), "1 channel of 32-bit signed integers from 0 to 255"),  # 8 bits, or very dark 16 bits
        (GRAY.astype("i8") - 1, "1 channel of 64-bit signed integers from -1 to 254"),
        (RGB_IMAGE.astype("i2") - 9, "3 channels of 16-bit signed integers from -9 to 246"),
    ],
)
def test_integers_without_a_known_white_are_refused_with_their_type(array: np.ndarray, words: str):
    array = array.copy()
    array.flat[:2] = array.min(), array.max()
    said = told(tiff(TiffPage(array, RGB if array.ndim == 3 else BLACK_IS_ZERO)))
    assert said.problem == f"which values are black and white is not known: {words}"
    assert said.place == "part.tif" and said.remedy == (
        "save it as gray or RGB with 8 or 16 bits per channel, as unsigned integers"
    )


@pytest.mark.parametrize("dtype", ["i2", "i4", "u4"])
def test_labels_of_a_mask_need_no_white(dtype: str):
    labels = np.array([[0, 1, 2, 255]], dtype)
    assert np.asarray(decode_upright(tiff(TiffPage(labels)))).tolist() == labels.tolist()
    if dtype == "i2":
        assert np.asarray(decode_upright(tiff(TiffPage(labels - 1)))).tolist() == [[-1, 0, 1, 254]]


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_out_of_range_and_nan_are_refused(channels: int):
    array = np.repeat(GRAY[..., None], channels, axis=2)
    photometric = RGB if channels == 3 else BLACK_IS_ZERO
    lowest, highest = GRAY.min(), GRAY.max()
    for dtype in ("f4", "f8"):
        said = told(tiff(TiffPage(array.astype(dtype), photometric)))
        assert said.problem == f"a float image has values from {lowest} to {highest}, expected 0 to 1"
        for bad in (np.nan, np.inf, 1e300):
            holed = (array / 255).astype(dtype)
            with np.errstate(over="ignore"):
                holed[3, 3] = bad
            assert "not finite" in told(tiff(TiffPage(holed, photometric))).problem


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (TiffPage(np.stack([GRAY, GRAY], 2)), "2 channels of 8-bit unsigned integers"),
        (TiffPage(np.stack([GRAY, GRAY], 2).astype("u2")), "2 channels of 16-bit unsigned integers"),
        (TiffPage(np.stack([GRAY] * 5, 2)), "5 channels of 8-bit unsigned integers"),
        (TiffPage(np.stack([GRAY] * 5, 2), tags={338: (3, [0] * 4)}), "5 channels of 8-bit unsigned integers"),
        (TiffPage(np.stack([GRAY] * 5, 2), RGB), "5 channels of 8-bit unsigned integers"),
        (TiffPage(np.stack([GRAY] * 2, 2), RGB), "2 channels of 8-bit unsigned integers"),
        (TiffPage(GRAY.astype("c8")), "1 channel of 64-bit complex"),
        (TiffPage(RGB_IMAGE, RGB, tags={258: (3, [5, 6, 5])}), "3 channels of unsigned integers"),
        (TiffPage(GRAY, tags={258: (3, [10])}), "1 channel of 10-bit unsigned integers"),
        (TiffPage(GRAY, 32844, tags={259: (3, [34676])}), "compression 34676, photometric 32844"),  # logarithms
        (TiffPage(GRAY, photometric=32803), "photometric 32803"),  # colour filters
    ],
)
def test_kinds_that_are_not_read_are_named_with_what_to_do(page: TiffPage, words: str):
    said = told(tiff(page))
    assert said.problem.startswith("a TIFF of this kind is not read: ") and words in said.problem
    assert said.remedy == "save it as gray or RGB with 8 or 16 bits per channel"


@pytest.mark.parametrize("width", [4, 5, 7])
def test_12_bits_have_a_white_of_their_own(width: int):
    values = np.random.default_rng(3).integers(0, 4096, (3, width))
    values[0, :3] = 0, 4095, 2048
    rows = ["".join(f"{value:012b}" for value in row) for row in values]
    packed = [int(row.ljust(-len(row) % 8 + len(row), "0"), 2).to_bytes(-(-len(row) // 8), "big") for row in rows]
    as_bytes = np.frombuffer(b"".join(packed), np.uint8).reshape(3, -1)
    data = tiff(TiffPage(as_bytes, tags={256: (4, [width]), 258: (3, [12])}))
    assert np.array_equal(decode_image(data)[..., 0], np.rint(np.rint(values * 65535 / 4095) / 257))


# ---- layouts


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("deflate", "predictor"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("shape", ["strips", "one strip", "tiles"])
def test_16_bit_colours_in_every_layout(shape: str, deflate: bool, predictor: int, planar: bool, order: str):
    tile_px, rows = (16, 16) if shape == "tiles" else None, 4 if shape == "strips" else None
    deep = RGB_IMAGE.astype(np.uint16) * 257
    page = TiffPage(deep, RGB, deflate, predictor, tile_px, rows, planar)
    for big in (False, True):
        assert np.array_equal(decode_image(tiff(page, order=order, big=big)), RGB_IMAGE)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("tile_px", [None, (16, 32)])
def test_differences_of_the_bytes_of_floats(tile_px: tuple[int, int] | None, dtype: str, order: str):
    for array, photometric in ((GRAY, BLACK_IS_ZERO), (RGB_IMAGE, RGB)):
        page = TiffPage(stored(array, dtype), photometric, True, 3, tile_px, None if tile_px else 5)
        pixels = decode_image(tiff(page, order=order))
        assert np.array_equal(pixels, array if array.ndim == 3 else GRAY_AS_RGB)


@pytest.mark.parametrize("compression", [1, 5, 32773, 32946])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_opencv_writes_is_exact(channels: int, dtype: str, compression: int):
    cv2 = pytest.importorskip("cv2")
    values = np.random.default_rng(0).integers(0, 256, (30, 40, channels), dtype=np.uint8)
    ok, data = cv2.imencode(".tif", stored(values, dtype), [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert ok
    expected = np.repeat(values, 3, axis=2) if channels == 1 else values[..., 2::-1]  # alpha is not declared
    assert np.array_equal(decode_image(data.tobytes()), expected)


def test_a_page_without_a_photometric_tag_has_black_as_zero():
    assert np.array_equal(decode_image(tiff(TiffPage(GRAY, None))), GRAY_AS_RGB)
    assert np.array_equal(decode_image(tiff(TiffPage(RGB_IMAGE, None))), RGB_IMAGE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_all_number_types(orientation: int):
    turned = [decode_image(tiff(TiffPage(stored(GRAY, d), tags={274: (3, [orientation])}))) for d in ("u1", "u2", "f8")]
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(GRAY).save(file, "PNG", exif=exif)
    assert all(np.array_equal(pixels, decode_image(file.getvalue())) for pixels in turned)


# ---- alpha


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize(("extra", "is_alpha"), [(None, False), (0, False), (1, None), (2, True), (999, False)])
def test_only_declared_alpha_is_alpha(extra: int | None, is_alpha: bool | None, dtype: str):
    alpha = np.where(np.arange(37) < 9, 0, 255).astype(np.uint8)[None].repeat(21, 0)
    tags = {} if extra is None else {EXTRA_SAMPLES: (3, [extra])}
    four = stored(np.dstack([RGB_IMAGE, alpha]), dtype)
    shown = RGB_IMAGE if not is_alpha else np.where(alpha[..., None] > 0, RGB_IMAGE, 0)
    assert np.array_equal(decode_image(tiff(TiffPage(four, RGB, tags=tags))), shown)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_gray_with_alpha(dtype: str):
    alpha = np.where(np.arange(37) < 9, 0, 255).astype(np.uint8)[None].repeat(21, 0)
    for photometric, gray in ((BLACK_IS_ZERO, GRAY), (WHITE_IS_ZERO, 255 - GRAY)):  # alpha is never inverted
        page = TiffPage(stored(np.dstack([gray, alpha]), dtype), photometric, tags={EXTRA_SAMPLES: (3, [2])})
        assert np.array_equal(decode_image(tiff(page))[..., 2], np.where(alpha > 0, GRAY, 0))


def test_alpha_of_zero_everywhere_is_none():
    four = np.dstack([RGB_IMAGE, np.zeros_like(GRAY)])
    read = decode_with_remarks(tiff(TiffPage(four, RGB, tags={EXTRA_SAMPLES: (3, [2])})))
    assert np.array_equal(read.pixels, RGB_IMAGE)
    assert read.remarks == ("every pixel is transparent: the colours are read as if none were",)
    assert decode_with_remarks(tiff(TiffPage(four, RGB))).remarks == ()  # nothing was declared


def test_declared_channels_beside_rgb_are_left_out():
    six = np.dstack([RGB_IMAGE, GRAY, GRAY, GRAY])
    data = tiff(TiffPage(six, RGB, tags={EXTRA_SAMPLES: (3, [0, 0, 0])}))
    assert np.array_equal(decode_image(data), RGB_IMAGE)


# ---- pages

SMALL = TiffPage(GRAY[::5, ::5])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_thumbnail_is_not_read_in_place_of_the_image(dtype: str, flag: bool, order: str, big: bool):
    image, thumbnail = TiffPage(stored(GRAY, dtype)), TiffPage(SMALL.array, tags=REDUCED if flag else {})
    for pages in ((thumbnail, image), (image, thumbnail), (thumbnail, thumbnail, image, thumbnail)):
        read = decode_with_remarks(tiff(*pages, order=order, big=big))
        assert np.array_equal(read.pixels, GRAY_AS_RGB) and read.remarks == ()


def test_a_thumbnail_of_another_kind_is_passed_over_even_if_nothing_reads_it():
    thumbnail = TiffPage(SMALL.array.astype("c8"), tags=REDUCED)
    assert np.array_equal(decode_image(tiff(thumbnail, TiffPage(GRAY))), GRAY_AS_RGB)


def test_a_reduced_page_is_not_read_even_if_it_is_larger():
    enlarged = TiffPage(np.kron(255 - GRAY, np.ones((2, 2), np.uint8)), tags=REDUCED)
    assert np.array_equal(decode_image(tiff(enlarged, TiffPage(GRAY))), GRAY_AS_RGB)


def test_if_all_pages_are_marked_as_reduced_the_largest_is_read():
    pages = TiffPage(SMALL.array, tags=REDUCED), TiffPage(GRAY, tags=REDUCED)
    assert np.array_equal(decode_image(tiff(*pages)), GRAY_AS_RGB)


def test_several_pages_are_remarked():
    three = tiff(TiffPage(GRAY), TiffPage(255 - GRAY), TiffPage(GRAY.T.copy()))
    read = decode_with_remarks(three)
    assert np.array_equal(read.pixels, GRAY_AS_RGB) and read.remarks == ("3 pages; the first is read",)
    larger = np.pad(GRAY, 1)
    read = decode_with_remarks(tiff(TiffPage(GRAY), TiffPage(larger)))
    assert np.array_equal(read.pixels[..., 0], larger) and read.remarks == ("2 pages; page 2, the largest, is read",)


def test_pages_that_pillow_decodes_are_chosen_in_the_same_way():
    file = io.BytesIO()
    pages = [Image.fromarray(noise(seed, *size)).quantize(32) for seed, size in ((0, (8, 8)), (1, (40, 50)))]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert np.array_equal(decode_image(file.getvalue()), np.asarray(pages[1].convert("RGB")))


def test_a_list_of_pages_that_goes_in_circles_or_breaks_off():
    page_at = struct.unpack("<I", tiff(TiffPage(GRAY))[4:8])[0]
    circle = decode_with_remarks(tiff(TiffPage(GRAY), last_offset=page_at))
    assert np.array_equal(circle.pixels, GRAY_AS_RGB) and circle.remarks == ()
    for nowhere in (2**31, page_at - 3):
        broken = decode_with_remarks(tiff(TiffPage(GRAY), last_offset=nowhere))
        assert np.array_equal(broken.pixels, GRAY_AS_RGB)
        assert broken.remarks == ("the list of pages breaks off after 1: the file may be damaged",)


def test_camera_raw_is_not_read_as_its_preview():
    said = told(tiff(TiffPage(SMALL.array, tags={**REDUCED, 330: (4, [8])})))
    assert said.problem == "only a preview of 8 x 5 px is a page of this TIFF: it is camera raw"
    assert said.remedy.startswith("develop it")


def test_a_page_that_is_too_large_is_not_decoded():
    huge = TiffPage(GRAY, tags={256: (4, [50_000]), 257: (4, [50_000])})
    with mistake("50000 x 50000 px is more than 170,000,000 pixels", "part.tif", "cut it into tiles"):
        decode_image(tiff(huge, TiffPage(GRAY)), place="part.tif")
    with mistake("37 x 21 px is more than 776 pixels", "", "cut it into tiles"):
        decode_image(tiff(TiffPage(GRAY)), max_pixels=776)


# ---- damage


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("tile_px", [None, (16, 16)])
def test_no_wrong_pixel_is_read_from_a_truncated_file(tile_px: tuple[int, int] | None, deflate: bool):
    page = TiffPage(GRAY.astype(np.uint16) * 257, BLACK_IS_ZERO, deflate, 1, tile_px, None if tile_px else 4)
    data = tiff(page)
    for length in range(8, len(data), 13):
        try:
            assert np.array_equal(decode_image(data[:length]), GRAY_AS_RGB)  # the lengths of strips alone are missing
        except UserError as error:
            assert error.remedy


@pytest.mark.parametrize("tile_px", [None, (16, 16)])
def test_compressed_data_that_ends_early_is_an_error(tile_px: tuple[int, int] | None):
    whole = tiff(TiffPage(GRAY, deflate=True, tile_px=tile_px))
    lengths = struct.pack("<HH", 325 if tile_px else 279, 4)
    count, value = struct.unpack_from("<II", whole, whole.index(lengths) + 4)
    at = whole.index(lengths) + 8 if count == 1 else value
    (length,) = struct.unpack_from("<I", whole, at)
    short = whole[:at] + struct.pack("<I", length // 2) + whole[at + 4 :]
    assert told(short).problem.startswith("the image cannot be decoded: ")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate"])
def test_a_hole_in_compressed_data_is_an_error(compression: str):
    data = written(texture(0, 96, 128), compression=compression)
    for seed in range(20):
        random = np.random.default_rng(seed)
        at = int(random.integers(len(data) // 8, len(data) * 3 // 4))
        for hole in (bytes(64), random.bytes(64)):
            assert explained(lambda hole=hole, at=at: decode_image(data[:at] + hole + data[at + 64 :])).problem


@pytest.mark.parametrize("bit", range(8))
def test_a_changed_bit_of_deflated_data_changes_no_pixel_unnoticed(bit: int):
    data = bytearray(tiff(TiffPage(GRAY, deflate=True)))
    refused = 0
    places = range(10, struct.unpack("<I", data[4:8])[0] - 1, 7)
    for at in places:
        changed = data.copy()
        changed[at] ^= 1 << bit
        try:
            assert np.array_equal(decode_image(bytes(changed)), GRAY_AS_RGB)  # a bit that only fills up a byte
        except UserError:
            refused += 1
    assert refused >= len(places) - 1


def test_holes_in_jpeg_pieces_are_noticed():
    data = written(texture(0, 192, 256), compression="jpeg", quality=90)
    whole = decode_with_remarks(data)
    assert whole.remarks == () and np.abs(whole.pixels.astype(int) - texture(0, 192, 256)).mean() < 5
    noticed = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        at = int(random.integers(1000, len(data) - 3000))
        try:
            noticed += bool(decode_with_remarks(data[:at] + random.bytes(1500) + data[at + 1500 :]).remarks)
        except UserError:
            noticed += 1
    assert noticed >= 19


def written(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", **options)
    return file.getvalue()


@pytest.mark.parametrize("length", [5, 10**6])
def test_lengths_of_strips_that_are_not_compressed_are_not_needed(length: int):
    assert np.array_equal(decode_image(tiff(TiffPage(GRAY, tags={279: (4, [length])}))), GRAY_AS_RGB)


def test_a_strip_that_was_left_out_is_an_error():
    assert "truncated" in told(tiff(TiffPage(GRAY, tags={279: (4, [0])}))).problem


def test_a_strip_that_is_too_short_is_an_error():
    for tags in ({273: (4, [10_000])}, {257: (4, [200])}):
        assert "truncated" in told(tiff(TiffPage(GRAY, tags=tags))).problem


# ---- the web page sees the same


@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_gray_values_have_the_page_and_the_polarity_of_the_image(photometric: int):
    deep = GRAY.astype(np.uint16) * 257
    image = TiffPage(deep if photometric else 65535 - deep, photometric)
    values = decode_gray_values(tiff(SMALL, image))
    assert values is not None and values.window == (0, 65535)
    assert np.array_equal(values.values, deep)
    assert np.array_equal(np.rint(values.values / 257), decode_image(tiff(SMALL, image))[..., 0])


def test_values_that_are_not_gray_are_refused_there_too():
    said = explained(lambda: decode_gray_values(tiff(TiffPage(GRAY.astype("i2") - 300))))
    assert "which values are black and white is not known" in said.problem


def test_the_brightest_of_16_bits_is_known_for_gray_and_colours():
    deep = RGB_IMAGE.astype(np.uint16)
    deep[3, 3] = 0, 300, 0
    assert decode_with_remarks(tiff(TiffPage(deep, RGB))).largest_of_16_bits == 300
    assert decode_with_remarks(tiff(TiffPage(deep[..., 1]))).largest_of_16_bits == 300
    assert decode_with_remarks(tiff(TiffPage(GRAY))).largest_of_16_bits is None
