"""Which good images are held out."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flawmap.data.sample import NormalImage
from flawmap.data.split import split_normals

FRACTION = st.floats(0.001, 0.9)


def images(number: int, prefix: str = "") -> list[NormalImage]:
    return [NormalImage(f"{prefix}{i}.png", Path(f"{i}.png")) for i in range(number)]


@given(number=st.integers(0, 80), fraction=FRACTION, seed=st.integers(0, 2**32 - 1))
def test_a_split_neither_loses_nor_repeats_an_image(number: int, fraction: float, seed: int):
    everything = images(number)
    train, held_out = split_normals(everything, fraction, seed)
    assert sorted(train + held_out, key=everything.index) == everything
    assert list(train) == [image for image in everything if image in train]  # in the order given
    if number >= 2:
        assert len(held_out) == min(max(1, round(number * fraction)), number - 1)
    else:
        assert held_out == ()


@given(fraction=FRACTION, seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order_of_images(fraction: float, seed: int, order):
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


def test_each_seed_holds_out_other_images_and_none_is_favoured():
    chosen = [tuple(image.key for image in split_normals(images(50), 0.1, seed)[1]) for seed in range(100)]
    assert len(set(chosen)) == 100
    counts = np.array([sum(f"{i}.png" in keys for keys in chosen) for i in range(50)])
    assert counts.sum() == 500 and counts.min() >= 1 and counts.max() <= 25  # mean 10, deviation 3


def test_a_file_name_that_is_not_utf_8_can_be_split():
    odd = NormalImage("caf\udce9.png", Path("caf\udce9.png"))
    train, held_out = split_normals([odd, *images(3)], 0.5, 0)
    assert {*train, *held_out} == {odd, *images(3)} and len(held_out) == 2


def test_the_split_of_a_seed_never_changes():
    """Runs are compared across versions: the same images must stay held out."""
    keys = [image.key for image in split_normals(images(20, "train/good/"), 0.2, 0)[1]]
    assert keys == ["train/good/3.png", "train/good/4.png", "train/good/6.png", "train/good/18.png"]  # by sha256sum
