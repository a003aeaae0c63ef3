"""EXIF orientation of images and masks."""

import io

import numpy as np
import pytest
from PIL import Image

from flawmap.data.images.files import decode_image, decode_stored, decode_with_remarks
from flawmap.data.images.orientation import swaps_sides, turned_upright


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
    assert decode_stored(data).orientation == decode_with_remarks(data).orientation == orientation
    upright = turned_upright(raw, orientation)
    assert upright.dtype == bool and np.array_equal(upright, decode_image(data)[..., 0] > 127)
    assert (upright.shape == (24, 16)) is swaps_sides(orientation)


@pytest.mark.parametrize("orientation", [None, 0, 9, 300])
def test_an_image_without_a_valid_orientation_is_upright(orientation: int | None):
    data = stored(np.zeros((4, 6), np.uint8), "JPEG", orientation)
    assert decode_stored(data).orientation == 1 and decode_stored(data).image.size == (6, 4)


def test_the_orientation_is_that_of_the_page_that_is_read():
    """A thumbnail before the image has none."""
    small, large = Image.new("L", (6, 4)), Image.new("L", (60, 40))
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    large.encoderinfo = {"exif": exif}
    small.save(file, "TIFF", save_all=True, append_images=[large])
    assert decode_stored(file.getvalue()).orientation == 6
    assert decode_stored(file.getvalue()).image.size == (40, 60)
