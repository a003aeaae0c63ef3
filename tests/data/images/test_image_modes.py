"""Every format and mode that Pillow writes, compared with the meaning of its samples written out in numpy."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.images.rgb import to_rgb
from flawmap.data.images.stored import FORMATS
from images import noise, write_image

HEIGHT, WIDTH = 12, 16
PALETTE = np.random.default_rng(5).permutation(256 * 3).astype(np.uint8).reshape(256, 3)
BYTES_PER_PIXEL = {
    **dict.fromkeys(("L", "P"), 1),
    **dict.fromkeys(("LA", "PA", "La", "I;16", "I;16L", "I;16B", "I;16N"), 2),
    **dict.fromkeys(("RGB", "HSV", "YCbCr", "LAB"), 3),
    **dict.fromkeys(("RGBA", "RGBa", "RGBX", "CMYK", "I", "F"), 4),
}


def raw_samples(mode: str, smooth: bool) -> np.ndarray:
    """Samples as the mode stores them; JPEG preserves smooth ones."""
    if smooth:
        ramps = [np.add.outer(np.arange(HEIGHT) * (3 + c), np.arange(WIDTH) * (9 - c)) for c in range(4)]
        noise = np.stack(ramps, axis=-1).astype(np.uint8)
    else:
        noise = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    if mode == "1":
        return np.kron(noise[::4, ::4, 0] > 99, np.ones((4, 4), bool)) if smooth else noise[..., 0] > 99
    if mode == "I":
        return noise.view(np.uint32)[..., 0].astype(np.int32) % 65536
    if mode == "F":
        return (noise[..., 0] / np.float32(255)).astype(np.float32)
    if mode.startswith("I;16"):
        return noise[..., :2].copy().view(">u2" if mode == "I;16B" else "<u2")[..., 0]
    channels = BYTES_PER_PIXEL[mode]
    return noise[..., 0] if channels == 1 else np.ascontiguousarray(noise[..., :channels])


def as_image(mode: str, samples: np.ndarray) -> Image.Image:
    if mode == "1":
        return Image.fromarray(samples)
    if mode == "PA":
        image = as_image("P", np.ascontiguousarray(samples[..., 0])).convert("PA")
        image.putalpha(Image.fromarray(np.ascontiguousarray(samples[..., 1])))
        return image
    image = Image.frombytes(mode, (WIDTH, HEIGHT), samples.tobytes())
    if mode == "P":
        image.putpalette(PALETTE.tobytes())
    return image


def share(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.floor(values.astype(float) * alpha / 255 + 0.5)


def meaning(mode: str, samples: np.ndarray) -> np.ndarray:
    """RGB in [0, 255] of raw samples."""
    x = samples.astype(float)
    if mode in ("RGB", "RGBX"):
        return x[..., :3]
    if mode == "RGBA":
        return share(x[..., :3], x[..., 3:])
    if mode == "P":
        return PALETTE[samples]
    if mode == "PA":
        return share(PALETTE[samples[..., 0]], x[..., 1:])
    if mode == "CMYK":
        white = 255 - x[..., 3:]
        return white - share(x[..., :3], white)
    if mode == "YCbCr":
        y, cb, cr = x[..., 0], x[..., 1] - 128, x[..., 2] - 128
        return np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1).clip(0, 255)
    gray = {
        "1": lambda: x * 255,
        "L": lambda: x,
        "LA": lambda: share(x[..., 0], x[..., -1]),
        "F": lambda: np.rint(samples * np.float32(255)),
    }.get(mode, lambda: np.rint(x / 257))()
    return np.repeat(gray[..., None], 3, axis=2)


def can_write(file_format: str, mode: str) -> bool:
    try:
        Image.new(mode, (2, 2)).save(io.BytesIO(), file_format)
    except (OSError, KeyError, ValueError):
        return False
    return True


CONVERTED = {  # Pillow writes other samples than these modes hold, or another format
    *(("WEBP", mode) for mode in ("F", "HSV", "I", "I;16", "I;16B", "I;16L", "I;16N", "RGBa")),
    *(("PPM", mode) for mode in ("F", "RGBA")),
}
WRITABLE = [
    (file_format, mode)
    for file_format in FORMATS
    for mode in Image.MODES
    if (file_format, mode) not in CONVERTED and can_write(file_format, mode)
]


def test_all_promised_modes_are_tested():
    promised = {
        *(("PNG", mode) for mode in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")),
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("1", "L", "LA", "I;16", "I;16B", "I", "F", "P", "RGB", "RGBA", "CMYK", "LAB")),
        *(("WEBP", mode) for mode in ("L", "RGB", "RGBA")),
        *(("PPM", mode) for mode in ("1", "L", "I;16", "I", "RGB")),
    }
    assert promised <= set(WRITABLE)


@pytest.mark.parametrize(("file_format", "mode"), [case for case in WRITABLE if case[1] != "LAB"])
def test_pixels_have_the_meaning_of_their_mode(file_format: str, mode: str, tmp_path):
    lossy = file_format == "JPEG"
    samples = raw_samples(mode, smooth=lossy)
    options = {"quality": 100, "subsampling": 0} if lossy else {"lossless": True} if file_format == "WEBP" else {}
    path = write_image(tmp_path / f"image.{file_format.lower()}", as_image(mode, samples), **options)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.shape == (HEIGHT, WIDTH, 3)
    if (file_format, mode) == ("BMP", "RGBA"):
        mode = "RGBX"  # Pillow writes a header that makes the fourth byte padding
    difference = np.abs(pixels - meaning(mode, samples))
    assert difference.max() <= (4 if lossy else 1 if mode == "YCbCr" else 0)
    assert np.ptp(pixels) > 100  # the image is not empty


@pytest.mark.parametrize(("lightness", "gray"), [(0, 0), (255, 255), (136, 127)])
def test_neutral_lab_is_gray(lightness: int, gray: int, tmp_path):
    """L* = 53.3 % is the lightness of sRGB 127: ((127/255 + 0.055) / 1.055) ** 2.4 = 0.212, 116 cbrt(0.212) - 16."""
    image = Image.frombytes("LAB", (4, 4), bytes([lightness, 0, 0]) * 16)
    pixels = read_image(write_image(tmp_path / "lab.tiff", image)).astype(int)
    assert np.abs(pixels - gray).max() <= 2


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_exact(compression: str, tmp_path):
    path = write_image(tmp_path / "image.tif", noise(1), compression=compression)
    assert np.array_equal(read_image(path), noise(1))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_images_of_few_bits_span_the_whole_range(bits: int, tmp_path):
    levels = np.arange(2**bits, dtype=np.uint8).repeat(4).reshape(1, -1)
    scale = 255 // (2**bits - 1)
    path = write_image(tmp_path / "image.png", Image.fromarray(levels * scale), bits=bits)
    assert np.array_equal(read_image(path)[..., 0], levels * scale)


@pytest.mark.parametrize(
    ("mode", "transparency"), [("L", 7), ("RGB", (7, 7, 7)), ("P", 7), ("P", bytes([255] * 7 + [0] + [255] * 248))]
)
def test_a_transparent_colour_is_black(mode: str, transparency: object, tmp_path):
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8)
    image = Image.fromarray(indices).convert(mode)
    if mode == "P":
        image.putpalette(PALETTE.tobytes())
    expected = (PALETTE[indices] if mode == "P" else np.repeat(indices[..., None], 3, axis=2)).copy()
    expected[indices == 7] = 0
    assert np.array_equal(read_image(write_image(tmp_path / "image.png", image, transparency=transparency)), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_premultiplied_colours_are_shown_unchanged(mode: str, tmp_path):
    samples = raw_samples(mode, smooth=False)
    samples[..., :-1] = share(samples[..., :-1], samples[..., -1:])
    path = write_image(tmp_path / "image.tiff", as_image(mode, samples))
    data = path.read_bytes()
    extra_samples = b"\x52\x01\x03\x00\x01\x00\x00\x00"  # tag 338, one short
    assert data.count(extra_samples + b"\x02") == 1
    path.write_bytes(data.replace(extra_samples + b"\x02", extra_samples + b"\x01"))  # 1: associated alpha
    expected = np.repeat(samples[..., :1], 3, axis=2) if mode == "LA" else samples[..., :3]
    assert np.abs(read_image(path).astype(int) - expected).max() <= (0 if mode == "LA" else 3)


def test_the_first_of_several_frames_is_read(tmp_path):
    frames = [Image.fromarray(noise(seed)) for seed in range(3)]
    path = write_image(tmp_path / "image.tiff", frames[0], save_all=True, append_images=frames[1:])
    assert np.array_equal(read_image(path), noise(0))


@pytest.mark.parametrize("name", ["IMAGE.PNG", "jpeg_in_name_only.jpg", "no_extension", "größe 1 图.png"])
def test_the_format_is_recognised_by_content_not_by_name(name: str, tmp_path):
    (tmp_path / name).write_bytes(write_image(tmp_path / "other.png", noise(1)).read_bytes())
    assert np.array_equal(read_image(tmp_path / name), noise(1))
    assert np.array_equal(read_image(str(tmp_path / name)), noise(1))


# ---- rotation

TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # from the stored pixels to the upright ones, by EXIF
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("extension", ["png", "tiff", "jpg"])
def test_exif_orientation_is_applied(extension: str, orientation: int, tmp_path):
    stored = np.repeat(raw_samples("RGB", smooth=True)[..., :1], 3, axis=2)
    quality = {"quality": 100} if extension == "jpg" else {}
    path = write_image(tmp_path / f"image.{extension}", stored, exif=with_orientation(orientation), **quality)
    expected = TURNED[orientation](stored).astype(int)
    pixels = read_image(path)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= (2 if extension == "jpg" else 0)


@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_applied_to_16_bits_and_to_pil_images(orientation: int, tmp_path):
    stored = (np.arange(12).reshape(3, 4) * 257).astype(np.uint16)
    path = write_image(tmp_path / "deep.png", stored, exif=with_orientation(orientation))
    expected = TURNED[orientation](stored // 257)
    assert np.array_equal(read_image(path)[..., 0], expected)
    with Image.open(path) as image:
        assert np.array_equal(to_rgb(image)[..., 2], expected)
        assert image.getexif()[0x0112] == orientation  # the caller's image is left alone
