"""Ground truth at the size of its image; which normal images are held out."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assertions import mistake
from flawmap.data.images.truth import boxes_to_mask, read_truth
from flawmap.data.sample import Boxes, LabelledImage, MaskFile, NormalImage
from flawmap.data.split import split_normals
from images import write_image

# ---- truth


def anomalous(truth: MaskFile | Boxes | None) -> LabelledImage:
    return LabelledImage("test/x.png", Path("test/x.png"), True, "hole", truth)


COORDINATE = st.floats(-6, 14) | st.integers(-6, 14).map(float)
BOX = st.tuples(COORDINATE, COORDINATE, st.floats(0.01, 20), st.floats(0.01, 20))


@given(boxes=st.lists(BOX, max_size=4), height=st.integers(1, 9), width=st.integers(1, 9))
def test_boxes_are_joined_pixel_by_pixel(boxes: list, height: int, width: int):
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
def test_a_box_outside_the_image_is_a_mistake(box: tuple):
    remedy = "boxes are x, y, width and height in pixels of the image as it is displayed"
    with mistake("no box covers a pixel of the image (5 x 4 px)", "test/x.png", remedy):
        read_truth(anomalous(Boxes((box,))), 4, 5)


def test_masks_are_read_at_their_own_size(tmp_path):
    mask = np.array([[0, 1, 255], [0, 0, 0]], np.uint8)
    truth = read_truth(anomalous(MaskFile(write_image(tmp_path / "mask.png", mask))), 2, 3)
    assert truth is not None and truth.tolist() == [[False, True, True], [False] * 3]


def test_without_a_place_there_is_no_truth(tmp_path):
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


# ---- split

FRACTION = st.floats(0.001, 0.9)


def images(number: int, prefix: str = "") -> list[NormalImage]:
    return [NormalImage(f"{prefix}{i}.png", Path(f"{i}.png")) for i in range(number)]


@given(number=st.integers(0, 80), fraction=FRACTION, seed=st.integers(0, 2**32 - 1))
def test_a_split_loses_and_repeats_no_image(number: int, fraction: float, seed: int):
    everything = images(number)
    train, held_out = split_normals(everything, fraction, seed)
    assert sorted(train + held_out, key=everything.index) == everything
    assert list(train) == [image for image in everything if image in train]  # in the order given
    if number >= 2:
        assert len(held_out) == min(max(1, round(number * fraction)), number - 1)
    else:
        assert held_out == ()


@given(fraction=FRACTION, seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter_for_their_side(fraction: float, seed: int, order):
    shuffled = images(30)
    order.shuffle(shuffled)
    assert set(split_normals(shuffled, fraction, seed)[1]) == set(split_normals(images(30), fraction, seed)[1])


@given(number=st.integers(2, 60), fraction=FRACTION, seed=st.integers(0, 99))
def test_one_more_image_moves_at_most_one_other(number: int, fraction: float, seed: int):
    before = set(split_normals(images(number), fraction, seed)[1])
    after = set(split_normals([*images(number), NormalImage("new.png", Path("new.png"))], fraction, seed)[1])
    assert len((before ^ after) - {NormalImage("new.png", Path("new.png"))}) <= 1


@given(seed=st.integers(0, 99))
def test_a_larger_share_holds_out_the_same_images_and_more(seed: int):
    shares = [set(split_normals(images(40), fraction, seed)[1]) for fraction in (0.05, 0.1, 0.3, 0.9)]
    assert all(small < large for small, large in pairwise(shares))


def test_nothing_is_held_out_unless_asked_for():
    assert split_normals(images(5), 0.0, 0) == (tuple(images(5)), ())


def test_seeds_and_names_choose_the_images_and_every_image_has_its_chance():
    chosen = [tuple(image.key for image in split_normals(images(50), 0.1, seed)[1]) for seed in range(100)]
    assert len(set(chosen)) == 100
    counts = np.array([sum(f"{i}.png" in one for one in chosen) for i in range(50)])
    assert counts.sum() == 500 and counts.min() >= 1 and counts.max() <= 25  # mean 10, deviation 3


def test_a_file_name_need_not_be_utf_8():
    odd = NormalImage("caf\udce9.png", Path("caf\udce9.png"))
    train, held_out = split_normals([odd, *images(3)], 0.5, 0)
    assert {*train, *held_out} == {odd, *images(3)} and len(held_out) == 2


def test_the_split_of_a_seed_never_changes():
    """Runs are compared across versions: the same images must stay held out."""
    keys = [image.key for image in split_normals(images(20, "train/good/"), 0.2, 0)[1]]
    assert keys == ["train/good/3.png", "train/good/4.png", "train/good/6.png", "train/good/18.png"]  # by sha256sum
