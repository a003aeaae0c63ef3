"""Resizing, compared with a triangle filter written out and with PyTorch; images kept in memory."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assertions import mistake
from flawmap.data.images.files import read_image
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from images import noise, write_noise

SIDE = st.integers(1, 24)


def triangle_filter(source: int, target: int) -> np.ndarray:
    """Weights (target, source): a triangle around each target pixel, as wide as it shrinks, at least one pixel."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


@given(height=SIDE, width=SIDE, new_height=SIDE, new_width=SIDE)
def test_resizing_is_a_triangle_filter(height: int, width: int, new_height: int, new_width: int):
    image = noise(height * 100 + width, height, width)
    rows, columns = triangle_filter(height, new_height), triangle_filter(width, new_width)
    expected = np.einsum("ri,ijc,kj->rkc", rows, image.astype(float), columns)
    resized = resize_image(image, new_height, new_width)
    assert resized.dtype == np.uint8 and resized.shape == (new_height, new_width, 3)
    assert np.abs(resized - expected).max() < 1.1  # rounded after each of the two passes


@pytest.mark.parametrize("size", [(20, 31), (97, 64), (13, 77)])
def test_resizing_equals_pytorchs_antialiased_bilinear(size: tuple[int, int]):
    torch = pytest.importorskip("torch")
    image = noise(7, 48, 60)
    x = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    difference = np.abs(resize_image(image, *size) - expected[0].permute(1, 2, 0).numpy())
    assert difference.max() < 1.1 and difference.mean() < 0.5


def test_the_same_size_and_a_single_colour_do_not_change():
    image = noise(0)
    assert np.array_equal(resize_image(image, *image.shape[:2]), image)
    assert (resize_image(np.full((7, 9, 3), 201, np.uint8), 30, 4) == 201).all()


@pytest.mark.parametrize("memory_limit_bytes", [0, 3 * 5 * 20 * 20 - 1, 3 * 5 * 20 * 20])
def test_pixels_are_the_same_kept_in_memory_or_read_again(memory_limit_bytes: int, tmp_path):
    paths = write_noise(tmp_path, range(5))
    pixels = NormalPixels([NormalImage(path.name, path) for path in paths], 20, memory_limit_bytes)
    assert len(pixels) == 5 and pixels.size_px == 20
    for index, path in enumerate(paths):
        assert np.array_equal(pixels[index], resize_image(read_image(path), 20, 20))
    for path in paths:
        path.unlink()
    assert pixels[4].shape == (20, 20, 3)  # the last one is kept in any case
    if memory_limit_bytes == 3 * 5 * 20 * 20:  # all fit, to the byte
        assert pixels[0].shape == (20, 20, 3)
    else:
        with mistake("the file cannot be read: No such file or directory", paths[0], "check the path"):
            pixels[0]


def test_an_unreadable_image_is_an_error_with_its_name(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"")
    with mistake("the file is empty (0 bytes)", tmp_path / "a.png", "remove it"):
        NormalPixels([NormalImage("a.png", tmp_path / "a.png")], 20)
