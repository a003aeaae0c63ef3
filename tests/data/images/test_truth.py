"""The ground truth of a test image, from its mask or its boxes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assertions import mistake
from flawmap.data.images.files import UnreadableImageError
from flawmap.data.images.orientation import swaps_sides, turned_upright
from flawmap.data.images.truth import read_truth, truth_of
from flawmap.data.sample import Boxes, LabelledImage, MaskFile
from images import write_image


def anomalous(truth: MaskFile | Boxes | None, path: Path = Path("test/x.png")) -> LabelledImage:
    return LabelledImage("test/x.png", path, True, "hole", truth)


def with_orientation(orientation: int | None) -> dict[str, Image.Exif]:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    return {"exif": exif}


def test_boxes_of_one_image_make_one_mask():
    boxes = Boxes(((0.0, 0.0, 2.0, 1.0), (1.0, 0.0, 2.0, 3.0)))
    truth = truth_of(anomalous(boxes), 3, 4)
    assert truth.pixels is not None and truth.pixels.astype(int).tolist() == [[1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    assert truth.remarks == () and truth.path is None


def test_masks_are_read_at_their_own_size(tmp_path):
    mask = write_image(tmp_path / "mask.png", np.array([[0, 1, 2], [0, 0, 0]], np.uint8))
    truth = truth_of(anomalous(MaskFile(mask)), 2, 3)
    assert truth.pixels is not None and truth.pixels.tolist() == [[False, True, True], [False] * 3]
    assert truth.remarks == () and truth.path == mask


def test_without_a_mask_or_boxes_there_is_no_truth():
    assert truth_of(anomalous(None), 2, 3).pixels is None


def test_an_empty_mask_is_no_truth_and_said(tmp_path):
    empty = MaskFile(write_image(tmp_path / "mask.png", np.zeros((2, 3), np.uint8)))
    truth = truth_of(anomalous(empty), 2, 3)
    assert truth.pixels is None
    assert truth.remarks == ("the mask of a defect is empty: the place of the defect is unknown",)


def test_a_normal_image_is_normal_everywhere(tmp_path):
    mask = write_image(tmp_path / "mask.png", np.zeros((2, 3), np.uint8))
    for truth in (None, MaskFile(mask)):
        pixels = read_truth(LabelledImage("x", Path("x"), False, "good", truth), 2, 3)
        assert pixels is not None and pixels.shape == (2, 3) and not pixels.any()


def test_a_normal_image_whose_mask_marks_a_defect(tmp_path):
    mask = write_image(tmp_path / "mask.png", np.array([[0, 255, 255], [0, 0, 0]], np.uint8))
    with mistake("x is labelled good, and its mask marks 2 pixels", mask, "correct the label, or remove the mask"):
        read_truth(LabelledImage("x", Path("x"), False, "good", MaskFile(mask)), 2, 3)


@pytest.mark.parametrize("shape", [(3, 2), (4, 6), (1, 3)])
def test_a_mask_of_another_size(shape: tuple[int, int], tmp_path):
    path = write_image(tmp_path / "mask.png", np.tile(np.array([0, 1], np.uint8), shape)[:, : shape[1]])
    problem = f"the mask is {shape[1]} x {shape[0]} px, its image 3 x 2 px"
    with mistake(problem, path, "save the mask at the size of its image"):
        truth_of(anomalous(MaskFile(path)), 2, 3)


# ---- EXIF orientation of image and mask


def raw_and_upright(orientation: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask on the stored image, uint8 (height, width), and the same defect on the upright one."""
    raw = np.zeros((height, width), bool)
    raw[2:7, 1:5] = True
    return raw.astype(np.uint8) * 255, turned_upright(raw, orientation)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_stored_size_is_turned_as_its_image(orientation: int, tmp_path):
    raw, upright = raw_and_upright(orientation, 12, 20)
    image = write_image(tmp_path / "x.jpg", raw, **with_orientation(orientation))
    mask = MaskFile(write_image(tmp_path / "mask.png", raw))
    truth = truth_of(anomalous(mask, image), 20, 12, orientation)
    assert truth.pixels is not None and np.array_equal(truth.pixels, upright)
    said = "the mask has the size of the stored image, so it is turned as the image is"
    assert truth.remarks == (f"the image has EXIF orientation {orientation} and the mask has none; {said}",)
    from_files = read_truth(anomalous(mask, image), 20, 12)
    assert from_files is not None and np.array_equal(from_files, upright)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_upright_size_is_upright(orientation: int, tmp_path):
    _, upright = raw_and_upright(orientation, 12, 20)
    mask = MaskFile(write_image(tmp_path / "mask.png", upright))
    truth = truth_of(anomalous(mask), 20, 12, orientation)
    assert truth.pixels is not None and np.array_equal(truth.pixels, upright) and truth.remarks == ()


@pytest.mark.parametrize(
    ("orientation", "width"), [(2, 12), (3, 12), (4, 12), (2, 20), (3, 20), (4, 20), (5, 12), (6, 12), (7, 12), (8, 12)]
)
def test_where_the_size_does_not_tell_the_mask_counts_as_upright_and_it_is_said(orientation: int, width: int, tmp_path):
    raw, _ = raw_and_upright(orientation, 12, width)
    mask = MaskFile(write_image(tmp_path / "mask.png", raw))
    truth = truth_of(anomalous(mask), 12, width, orientation)
    assert truth.pixels is not None and np.array_equal(truth.pixels, raw > 0)
    assert truth.remarks == (
        f"the image has EXIF orientation {orientation} and the mask has none, and the mask is taken to be drawn on the "
        f"upright image; if a tool that ignores EXIF drew it, give it EXIF orientation {orientation}, too",
    )


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_with_the_orientation_of_its_image_is_turned_by_it(orientation: int, tmp_path):
    """What the remark advises."""
    raw, upright = raw_and_upright(orientation, 12, 12)
    mask = MaskFile(write_image(tmp_path / "mask.png", raw, **with_orientation(orientation)))
    truth = truth_of(anomalous(mask), 12, 12, orientation)
    assert truth.pixels is not None and np.array_equal(truth.pixels, upright) and truth.remarks == ()


@pytest.mark.parametrize(("of_image", "words"), [(1, "no orientation"), (3, "orientation 3")])
def test_a_mask_with_another_orientation_than_its_image(of_image: int, words: str, tmp_path):
    raw, upright = raw_and_upright(6, 12, 12)
    mask = MaskFile(write_image(tmp_path / "mask.png", raw, **with_orientation(6)))
    truth = truth_of(anomalous(mask), 12, 12, of_image)
    assert truth.pixels is not None and np.array_equal(truth.pixels, upright)
    assert truth.remarks == (f"the mask has EXIF orientation 6 and its image {words}; each is turned by its own",)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_of_another_size_beside_a_turned_image(orientation: int, tmp_path):
    path = write_image(tmp_path / "mask.png", np.eye(7, dtype=np.uint8))
    height, width = (20, 12) if swaps_sides(orientation) else (12, 20)
    problem = f"the mask is 7 x 7 px, its image {width} x {height} px, upright by its EXIF orientation {orientation}"
    with mistake(problem, path, "save the mask at the size of its image"):
        truth_of(anomalous(MaskFile(path)), height, width, orientation)


def test_a_mask_that_claims_far_more_pixels_than_its_image_is_not_decoded(tmp_path):
    """A file of a kilobyte can claim 160 megapixels, which would take a gigabyte to decode."""
    path = write_image(tmp_path / "mask.png", np.zeros((40, 3), np.uint8))  # 20 times the pixels of the image
    with pytest.raises(UnreadableImageError, match="pixels") as caught:
        truth_of(anomalous(MaskFile(path)), 2, 3)
    assert caught.value.place == str(path)
