"""Masks, boxes, and the ground truth of a test image."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from assertions import mistake
from flawmap.data.images.truth import boxes_to_mask, read_mask, read_truth
from flawmap.data.sample import Boxes, LabelledImage, MaskFile
from images import noise, write_image

# ---- truth


def anomalous(truth: MaskFile | Boxes | None) -> LabelledImage:
    return LabelledImage("test/x.png", Path("test/x.png"), True, "hole", truth)


COORDINATE = st.floats(-6, 14) | st.integers(-6, 14).map(float)
BOX = st.tuples(COORDINATE, COORDINATE, st.floats(0.01, 20), st.floats(0.01, 20))


@given(boxes=st.lists(BOX, max_size=4), height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_mask_of_boxes_is_their_union(boxes: list, height: int, width: int):
    expected = [
        [
            any(np.floor(x) <= c < np.floor(x + w) and np.floor(y) <= r < np.floor(y + h) for x, y, w, h in boxes)
            for c in range(width)
        ]
        for r in range(height)
    ]
    mask = boxes_to_mask(Boxes(tuple(boxes)), height, width)
    assert mask.dtype == bool and mask.tolist() == expected


def test_boxes_of_one_image_make_one_mask():
    boxes = Boxes(((0.0, 0.0, 2.0, 1.0), (1.0, 0.0, 2.0, 3.0)))
    truth = read_truth(anomalous(boxes), 3, 4)
    assert truth is not None and truth.astype(int).tolist() == [[1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize("box", [(0.0, 0.0, 5.0, 4.0), (-10.0, -10.0, 99.0, 1e300)])
def test_a_box_as_large_as_the_image_covers_all_of_it(box: tuple):
    truth = read_truth(anomalous(Boxes((box,))), 4, 5)
    assert truth is not None and truth.shape == (4, 5) and truth.all()


@pytest.mark.parametrize("box", [(5.0, 0.0, 3.0, 3.0), (0.0, -3.0, 3.0, 3.0), (1.1, 1.1, 0.5, 9.0)])
def test_a_box_outside_the_image_is_an_error(box: tuple):
    remedy = "boxes are x, y, width and height in pixels of the image as it is displayed"
    with mistake("no box covers a pixel of the image (5 x 4 px)", "test/x.png", remedy):
        read_truth(anomalous(Boxes((box,))), 4, 5)


def test_masks_are_read_at_their_own_size(tmp_path):
    mask = np.array([[0, 1, 255], [0, 0, 0]], np.uint8)
    truth = read_truth(anomalous(MaskFile(write_image(tmp_path / "mask.png", mask))), 2, 3)
    assert truth is not None and truth.tolist() == [[False, True, True], [False] * 3]


def test_without_a_mask_or_boxes_there_is_no_truth(tmp_path):
    empty = MaskFile(write_image(tmp_path / "mask.png", np.zeros((2, 3), np.uint8)))
    assert read_truth(anomalous(None), 2, 3) is None
    assert read_truth(anomalous(empty), 2, 3) is None


def test_a_normal_image_is_normal_everywhere():
    normal = LabelledImage("x", Path("x"), False, "good", MaskFile(Path("is/not/read.png")))
    truth = read_truth(normal, 2, 3)
    assert truth is not None and truth.shape == (2, 3) and not truth.any()


@pytest.mark.parametrize("shape", [(3, 2), (4, 6), (1, 3)])
def test_a_mask_of_another_size(shape: tuple[int, int], tmp_path):
    path = write_image(tmp_path / "mask.png", np.ones(shape, np.uint8))
    problem = f"the mask is {shape[1]} x {shape[0]} px, its image 3 x 2 px"
    with mistake(problem, path, "save the mask at the size of its image"):
        read_truth(anomalous(MaskFile(path)), 2, 3)


# ---- masks


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I", "F", "LA", "RGB", "RGBA"])
def test_every_non_zero_pixel_of_a_mask_is_anomalous(mode: str, tmp_path):
    values = np.array([[0, 1, 0, 127], [255, 0, 2, 0]])
    if mode in ("I;16", "I", "F"):
        mask = Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        one = values.astype(np.uint8)
        none, opaque = np.zeros_like(one), np.full_like(one, 255)
        bands = {"LA": [one, opaque], "RGB": [none, none, one], "RGBA": [none, none, one, opaque]}.get(mode, [one])
        mask = Image.merge("L" if mode == "P" else mode, [Image.fromarray(band) for band in bands])
        if mode == "P":
            mask.putpalette([0, 0, 0] * 256)  # labels count, not their colours
    pixels = read_mask(write_image(tmp_path / "mask.tiff", mask))
    assert pixels.dtype == bool
    assert np.array_equal(pixels, values > 0)


def test_a_mask_of_one_bit(tmp_path):
    mask = noise(0)[..., 0] > 200
    assert np.array_equal(read_mask(write_image(tmp_path / "mask.png", mask)), mask)


def test_white_paper_in_cmyk_is_anomalous_and_black_ink_is_not(tmp_path):
    ink = Image.frombytes("CMYK", (3, 1), bytes([0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0]))
    assert read_mask(write_image(tmp_path / "mask.tiff", ink)).tolist() == [[True, False, False]]


def test_exif_rotation_is_applied_to_masks(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = np.array([[255, 0, 0], [0, 0, 0]], np.uint8)
    pixels = read_mask(write_image(tmp_path / "mask.png", mask, exif=exif))
    assert pixels.tolist() == [[False, True], [False, False], [False, False]]


def test_jpeg_artefacts_around_an_edge_are_not_anomalous(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[11:22, 13:30] = 255
    path = write_image(tmp_path / "mask.jpg", mask, quality=75)
    with Image.open(path) as stored:
        assert (np.asarray(stored)[mask == 0] > 0).any()
    assert np.array_equal(read_mask(path), mask > 0)
