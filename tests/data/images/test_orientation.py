"""EXIF orientation of images and masks."""

import io

import numpy as np
import pytest
from PIL import Image

from flawmap.data.images.files import decode_image
from flawmap.data.images.orientation import exif_orientation, swaps_sides, turned_upright


def stored(pixels: np.ndarray, kind: str, orientation: int | None) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_the_stored_image_is_turned_as_the_image_is(kind: str, orientation: int):
    raw = np.zeros((16, 24), bool)
    raw[:8, :8] = raw[8:, 16:] = raw[:8, 8:16] = True  # no turn leaves it as it is, and JPEG changes no block
    data = stored(raw.astype(np.uint8) * 255, kind, orientation)
    assert exif_orientation(data) == orientation
    upright = turned_upright(raw, orientation)
    assert upright.dtype == bool and np.array_equal(upright, decode_image(data)[..., 0] > 127)
    assert (upright.shape == (24, 16)) is swaps_sides(orientation)


@pytest.mark.parametrize("orientation", [None, 0, 9, 300])
def test_an_image_without_a_valid_orientation_is_upright(orientation: int | None):
    assert exif_orientation(stored(np.zeros((4, 6), np.uint8), "JPEG", orientation)) == 1


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff\xe1\x00\x08Exif\x00"])
def test_what_is_no_image_is_upright(data: bytes):
    assert exif_orientation(data) == 1


def test_the_pixels_of_a_png_file_without_exif_are_not_decoded():
    data = stored(np.zeros((4, 6), np.uint8), "PNG", None)
    assert exif_orientation(data) == exif_orientation(data[:40]) == 1
