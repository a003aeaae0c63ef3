"""Alpha channels and transparent colours: over black, unless there is none in truth."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from flawmap.data.images.files import decode_gray_values, decode_image, decode_upright, decode_with_remarks
from flawmap.data.images.rgb import to_rgb
from images import noise

ALL_TRANSPARENT = ("every pixel is transparent: the colours are read as if none were",)
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, bits: int, colour_type: int, *chunks: bytes, interlaced: bool = False) -> bytes:
    """One row of samples (w,) or (w, c) as PNG stores them; four of the passes of interlacing have a first row."""
    passes = [samples[start::step] for start, step in ((0, 8), (4, 8), (2, 4), (1, 2))] if interlaced else [samples]
    rows = b"".join(b"\0" + packed(part, bits) for part in passes if len(part))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", len(samples), 1, bits, colour_type, 0, 0, int(interlaced)))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def packed(samples: np.ndarray, bits: int) -> bytes:
    if bits == 16:
        return samples.astype(">u2").tobytes()
    digits = "".join(f"{value:0{bits}b}" for value in samples.ravel())
    return bytes(int(digits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(digits), 8))


def transparent(*values: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def row(data: bytes) -> list:
    """The only row, as gray values, or as colours if it has any."""
    pixels = decode_image(data)[0]
    return pixels[:, 0].tolist() if (pixels == pixels[:, :1]).all() else pixels.tolist()


# ---- one transparent colour


@pytest.mark.parametrize(
    ("bits", "samples", "value", "shown"),
    [
        (1, [0, 1, 1, 0], 1, [0, 0, 0, 0]),
        (1, [0, 1, 1, 0], 0, [0, 255, 255, 0]),
        (2, [0, 1, 2, 3], 2, [0, 85, 0, 255]),
        (4, [0, 7, 15, 3], 7, [0, 0, 255, 51]),
        (8, [0, 7, 8, 255], 7, [0, 0, 8, 255]),
        (16, [0, 1799, 1800, 65535], 1799, [0, 0, 7, 255]),  # 1799 and 1800 have one upper byte, and round to 7
        (16, [0, 1799, 1800, 65535], 7, [0, 7, 7, 255]),  # 7 is the upper byte of 1799, but not its value
    ],
)
def test_a_transparent_gray_is_compared_in_the_bits_of_the_file(bits: int, samples: list, value: int, shown: list):
    assert row(png(np.array(samples), bits, GRAY, transparent(value))) == shown


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_transparent_colour_is_compared_in_16_bits(interlaced: bool):
    samples = np.array([[257, 514, 771], [257, 514, 770], [65535, 0, 128]])
    data = png(samples, 16, RGB, transparent(257, 514, 771), interlaced=interlaced)
    assert row(data) == [[0, 0, 0], [1, 2, 3], [255, 0, 0]]
    assert row(png(samples, 16, RGB, interlaced=interlaced)) == [[1, 2, 3], [1, 2, 3], [255, 0, 0]]


def test_a_transparent_colour_of_8_bits():
    samples = np.array([[1, 2, 3], [1, 2, 4]])
    assert row(png(samples, 8, RGB, transparent(1, 2, 3))) == [[0, 0, 0], [1, 2, 4]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_entries_of_a_palette_have_alpha(bits: int):
    palette = chunk(b"PLTE", bytes([200, 100, 50, 10, 20, 30]))
    data = png(np.array([0, 1, 1]), bits, PALETTE, palette, chunk(b"tRNS", bytes([128, 255])))
    assert row(data) == [[100, 50, 25], [10, 20, 30], [10, 20, 30]]  # 200 * 128 / 255 = 100.4


def test_gray_values_for_the_page_agree_with_the_image():
    data = png(np.array([0, 1799, 1800, 65535]), 16, GRAY, transparent(1799))
    values = decode_gray_values(data)
    assert values is not None and values.values.tolist() == [[0, 0, 1800, 65535]]


# ---- alpha channels


@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_alpha(interlaced: bool):
    gray = np.array([[51400, 65535], [51400, 32896], [51400, 0]])  # 200 * 257; 128 * 257
    assert row(png(gray, 16, GRAY_ALPHA, interlaced=interlaced)) == [200, 100, 0]
    colours = np.array([[51400, 129, 65535, 65535], [51400, 0, 0, 32896]])
    assert row(png(colours, 16, RGB_ALPHA, interlaced=interlaced)) == [[200, 1, 255], [100, 0, 0]]


@pytest.mark.parametrize("pillow_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_shown_over_black_or_is_none_at_all(mode: str, pillow_format: str):
    colours = Image.fromarray(noise(0)).convert(mode[:-1])
    shown = np.asarray(colours.convert("RGB"))
    left_only = np.where(np.arange(16) < 5, 0, 255)[None].repeat(12, 0)
    for alpha in (np.zeros((12, 16)), np.ones((12, 16)), left_only, 255 - left_only, np.full((12, 16), 255)):
        image = colours.copy()
        image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
        file = io.BytesIO()
        image.save(file, pillow_format, **({"lossless": True, "exact": True} if pillow_format == "WEBP" else {}))
        read = decode_with_remarks(file.getvalue())
        if alpha.any():
            assert read.remarks == ()
            assert np.array_equal(read.pixels, np.floor(shown * alpha[..., None] / 255 + 0.5))
        else:
            assert read.remarks == ALL_TRANSPARENT and np.array_equal(read.pixels, shown)


def test_transparency_of_every_pixel_by_palette_or_colour_is_none_either():
    palette = chunk(b"PLTE", bytes([200, 100, 50, 10, 20, 30]))
    for data, shown in [
        (png(np.array([0, 1]), 8, PALETTE, palette, chunk(b"tRNS", bytes(2))), [[200, 100, 50], [10, 20, 30]]),
        (png(np.array([9, 9]), 8, GRAY, transparent(9)), [9, 9]),
        (png(np.array([5140, 5140]), 16, GRAY, transparent(5140)), [20, 20]),
        (png(np.array([[257, 514, 771]]), 16, RGB, transparent(257, 514, 771)), [[1, 2, 3]]),
        (png(np.array([[5140, 0]]), 16, GRAY_ALPHA), [20]),
    ]:
        assert row(data) == shown and decode_with_remarks(data).remarks == ALL_TRANSPARENT


def test_an_array_or_a_pil_image_with_alpha_of_zero_everywhere_has_none():
    rgba = np.dstack([noise(0), np.zeros((12, 16), np.uint8)])
    assert np.array_equal(to_rgb(rgba), noise(0))
    assert np.array_equal(to_rgb(Image.fromarray(rgba)), noise(0))
    rgba[0, 0, 3] = 255
    assert to_rgb(rgba)[1:].max() == 0


def bmp(fourth_byte: int, header_bytes: int, alpha_mask: int) -> bytes:
    """32 bits per pixel; headers of 40 and 52 bytes know no alpha, those of 56, 108 and 124 do."""
    pixels = np.dstack([noise(0)[::-1, :, ::-1], np.full((12, 16), fourth_byte, np.uint8)]).tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, alpha_mask)[: header_bytes - 40]
    kind = 0 if header_bytes == 40 else 3  # 3: with masks
    fields = struct.pack("<IiiHHIIiiII", header_bytes, 16, 12, 1, 32, kind, len(pixels), 0, 0, 0, 0)
    at = 14 + header_bytes
    file_header = b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at)
    return file_header + (fields + masks).ljust(header_bytes, b"\0") + pixels


@pytest.mark.parametrize("header_bytes", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("alpha_mask", [0, 0xFF000000])
def test_the_fourth_byte_of_a_bmp_file_is_no_alpha_if_it_is_zero_everywhere(alpha_mask: int, header_bytes: int):
    read = decode_with_remarks(bmp(0, header_bytes, alpha_mask))
    assert np.array_equal(read.pixels, noise(0))
    assert read.remarks == (ALL_TRANSPARENT if alpha_mask and header_bytes >= 56 else ())


def test_real_alpha_of_a_bmp_file_is_alpha():
    assert np.array_equal(decode_image(bmp(51, 108, 0xFF000000)), np.floor(noise(0) / 5 + 0.5))
    assert np.array_equal(decode_image(bmp(51, 40, 0)), noise(0))


# ---- several frames


@pytest.mark.parametrize("pillow_format", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read_with_a_remark(pillow_format: str):
    frames = [Image.fromarray(noise(seed, 20, 20)) for seed in range(3)]
    file = io.BytesIO()
    options = {"lossless": True} if pillow_format == "WEBP" else {}
    frames[0].save(file, pillow_format, save_all=True, append_images=frames[1:], **options)
    read = decode_with_remarks(file.getvalue())
    assert np.array_equal(read.pixels, noise(0, 20, 20)) and read.remarks == ("3 frames; the first is read",)
    assert decode_upright(file.getvalue()).size == (20, 20)


def test_previews_in_a_jpeg_file_are_not_remarked_and_its_other_pictures_are():
    frames = [Image.fromarray(noise(seed, 32, 32)) for seed in range(2)]
    file = io.BytesIO()
    frames[0].save(file, "MPO", save_all=True, append_images=frames[1:])
    read = decode_with_remarks(file.getvalue())
    alone = io.BytesIO()
    frames[0].save(alone, "JPEG")
    assert np.array_equal(read.pixels, decode_image(alone.getvalue()))
    with Image.open(file) as image:
        kinds = [entry["Attribute"]["MPType"] for entry in image.mpinfo[0xB002]]
    expected = ("2 pictures; the first is read",) if any(kind.startswith("Multi-Frame") for kind in kinds) else ()
    assert read.remarks == expected
