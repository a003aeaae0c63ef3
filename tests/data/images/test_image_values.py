"""Bit depths, arrays, masks, and files that cannot be read."""

import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from assertions import mistake
from flawmap.data.images.files import MAX_PIXELS, read_image
from flawmap.data.images.mask import read_mask
from flawmap.data.images.rgb import to_rgb
from flawmap.errors import UserError
from images import noise, truncate, write_image

# ---- bit depth


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_the_16_bit_scale_is_fixed(extension: str, tmp_path):
    deep = np.array([[0, 128, 129, 257, 385, 386, 32768, 65278, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 1, 2, 128, 254, 255]  # 65278 / 257 = 254.0, 129 / 257 = 0.502
    path = write_image(tmp_path / f"deep.{extension}", deep)
    assert read_image(path).tolist() == [[[value] * 3 for value in expected]]
    assert to_rgb(deep)[0, :, 0].tolist() == expected


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=5)))
def test_16_bit_values_are_divided_by_257_and_rounded(deep: np.ndarray):
    assert np.array_equal(to_rgb(deep), np.repeat(np.rint(deep / 257)[..., None], 3, axis=2))


@pytest.mark.parametrize("extension", ["png", "tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colours_are_rounded_as_gray_is(extension: str, channels: int, tmp_path):
    cv2 = pytest.importorskip("cv2")
    deep = np.random.default_rng(0).integers(0, 65536, (4, 5, channels), dtype=np.uint16)
    deep[0, 0], deep[0, 1], deep[0, 2], deep[0, 3], deep[..., 3:] = 0, 257, 65535, 129, 65535
    assert cv2.imwrite(str(tmp_path / f"deep.{extension}"), deep)
    pixels = read_image(tmp_path / f"deep.{extension}")
    assert np.array_equal(pixels, np.rint(deep[..., 2::-1] / 257))  # OpenCV writes blue first
    assert pixels[0, :4, 0].tolist() == [0, 1, 255, 1]  # the upper byte of 129 is 0


def test_floats_between_0_and_1_span_the_range(tmp_path):
    path = write_image(tmp_path / "float.tiff", np.array([[0, 0.25, 0.5, 1]], np.float32))
    assert read_image(path)[0, :, 1].tolist() == [0, 64, 128, 255]  # 63.75 and 127.5, halves to even


# ---- arrays


def test_arrays_become_rgb():
    rgb = noise(0)
    gray, alpha = rgb[..., 0], np.full((*rgb.shape[:2], 1), 51, np.uint8)
    assert np.array_equal(to_rgb(rgb), rgb)
    assert np.array_equal(to_rgb(gray), np.stack([gray] * 3, axis=2))
    assert np.array_equal(to_rgb(gray[..., None]), to_rgb(gray))
    assert np.array_equal(to_rgb(np.dstack([rgb, alpha])), np.rint(rgb / 5))
    assert np.array_equal(to_rgb(rgb.astype(np.uint16) * 257), rgb)
    assert np.array_equal(to_rgb(rgb.astype(np.float64) / 255), rgb)
    assert np.array_equal(to_rgb(gray > 99), to_rgb(np.where(gray > 99, 255, 0).astype(np.uint8)))


@pytest.mark.parametrize("shape", [(3,), (4, 4, 2), (4, 4, 5), (0, 4, 3), (2, 4, 4, 3)])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]):
    with mistake(f"an array of shape {shape} is not an image", "", "give (H, W), (H, W, 3) or (H, W, 4)"):
        to_rgb(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([0.0, 1.5], "a float image has values from 0 to 1.5, expected 0 to 1"),
        ([-0.5, 1.0], "a float image has values from -0.5 to 1, expected 0 to 1"),
        ([0.0, float("nan")], "the image holds values that are not finite (NaN or infinity)"),
        ([0.0, float("inf")], "the image holds values that are not finite (NaN or infinity)"),
        ([0, 65536], "values of type int64 beyond 16 bits"),
        ([-1, 5], "values of type int64 beyond 16 bits"),
        ([1j, 2j], "values of type complex128 beyond 16 bits"),
    ],
)
def test_arrays_of_other_values_are_refused(values: list, problem: str):
    with mistake(problem, "", " "):
        to_rgb(np.array([values]))


# ---- files that are not images


def test_a_missing_file(tmp_path):
    missing = tmp_path / "missing.png"
    for read in (read_image, read_mask):
        with mistake("the file cannot be read: No such file or directory", missing, "check the path"):
            read(missing)


def test_a_folder_is_not_an_image(tmp_path):
    with mistake("the file cannot be read: Is a directory", tmp_path, "check the path"):
        read_image(tmp_path)


def test_an_empty_file(tmp_path):
    (tmp_path / "empty.png").touch()
    with mistake("the file is empty (0 bytes)", tmp_path / "empty.png", "remove it"):
        read_image(tmp_path / "empty.png")


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tiff"])
def test_a_truncated_file(extension: str, tmp_path):
    path = truncate(write_image(tmp_path / f"image.{extension}", noise(0, 40, 40)))
    problem = f"the image cannot be decoded: truncated (file of {path.stat().st_size:,} bytes)"
    if extension == "jpg":
        problem = "the image cannot be decoded: truncated or damaged, rows are missing"
    for read in (read_image, read_mask):
        with mistake(problem, path, "copy it again, or remove it"):
            read(path)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tiff"])
def test_no_wrong_pixel_is_read_from_a_truncated_file(extension: str, tmp_path):
    path = write_image(tmp_path / f"image.{extension}", noise(0, 5, 6))
    data, whole = path.read_bytes(), read_image(path)
    lengths = sorted({*range(0, len(data), 11), *range(len(data) - 30, len(data))})
    refused = 0
    for length in lengths:
        path.write_bytes(data[:length])
        try:
            assert np.array_equal(read_image(path), whole), length  # only what follows the pixels is missing
        except UserError as error:
            refused += 1
            assert error.problem and error.place == str(path) and error.remedy
    assert refused >= len(lengths) - 25


def test_a_damaged_header_is_an_error_with_the_file_name(tmp_path):
    """Pillow raises a TypeError on this type of entry."""
    path = write_image(tmp_path / "image.tiff", noise(0))
    offsets = struct.pack("<HHI", 273, 4, 1)  # StripOffsets, one long
    data = path.read_bytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, struct.pack("<HHI", 273, 11, 1)))  # one float
    with pytest.raises(UserError) as caught:
        read_image(path)
    assert caught.value.problem.startswith("the image cannot be decoded: ")
    assert caught.value.place == str(path) and "copy it again" in caught.value.remedy


def huge_png(path: Path, side: int) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_a_decompression_bomb_is_not_decoded(tmp_path):
    assert MAX_PIXELS == 170_000_000
    path = huge_png(tmp_path / "large.png", 13_040)
    with mistake("13040 x 13040 px is more than 170,000,000 pixels", path, "cut it into tiles"):
        read_image(path)
    path = huge_png(tmp_path / "larger.png", 20_000)
    with mistake("the image is too large to be decoded safely", path, "cut it into tiles"):
        read_image(path)


def test_values_out_of_range_are_an_error_with_the_file_name(tmp_path):
    path = write_image(tmp_path / "float.tiff", np.array([[0, 300]], np.float32))
    with mistake("a float image has values from 0 to 300, expected 0 to 1", path, "scale it to [0, 1]"):
        read_image(path)
    path = write_image(tmp_path / "int.tiff", np.array([[0, 70000]], np.int32))
    problem = "which values are black and white is not known: 1 channel of 32-bit signed integers from 0 to 70,000"
    with mistake(problem, path, "with 8 or 16 bits per channel"):
        read_image(path)


def test_reading_in_threads_restores_the_warning_filters(tmp_path, monkeypatch):
    """If two readers overlapped, the second would restore the filters that the first had set."""
    path, really_open, before = write_image(tmp_path / "a.png", noise(0)), Image.open, list(warnings.filters)
    one_inside, two_inside, one_done = threading.Event(), threading.Event(), threading.Event()

    def open_slowly(*arguments: object, **options: object) -> Image.Image:
        if not one_inside.is_set():
            one_inside.set()
            two_inside.wait(0.3)  # times out if readers exclude each other
        else:
            two_inside.set()
            one_done.wait(0.3)
        return really_open(*arguments, **options)

    monkeypatch.setattr(Image, "open", open_slowly)
    with ThreadPoolExecutor(2) as pool:
        readings = [pool.submit(read_image, path) for _ in range(2)]
        for reading in readings:
            reading.add_done_callback(lambda _: one_done.set())
        assert all(np.array_equal(reading.result(), noise(0)) for reading in readings)
    assert warnings.filters == before
