"""Which good images are held out."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flawmap.data.groups import MIN_GROUPS
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


# ---- groups

SIZES = st.lists(st.integers(1, 12), min_size=MIN_GROUPS, max_size=20)


def grouped_images(sizes: Sequence[int], alone: int = 0) -> list[NormalImage]:
    """So many images of each group, and some of none."""
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    in_groups = [NormalImage(f"{i}.png", Path(f"{i}.png"), group=group) for i, group in enumerate(groups)]
    return [*in_groups, *images(alone, "alone/")]


def identity(image: NormalImage) -> str:
    return image.key if image.group is None else image.group


@given(sizes=SIZES, alone=st.integers(0, 9), fraction=FRACTION, seed=st.integers(0, 99))
def test_no_group_is_split_and_the_number_is_as_near_as_half_the_smallest_group(
    sizes: list[int], alone: int, fraction: float, seed: int
):
    everything = grouped_images(sizes, alone)
    train, held_out = split_normals(everything, fraction, seed)
    assert sorted(train + held_out, key=everything.index) == everything
    assert train and held_out and not {identity(i) for i in train} & {identity(i) for i in held_out}
    left = Counter(identity(image) for image in train)
    wanted = min(max(1, round(len(everything) * fraction)), len(everything) - 1)
    assert (
        abs(len(held_out) - wanted) <= min(left.values()) / 2
        or len(left) == 1
        or len(set(map(identity, held_out))) == 1
    )


@given(sizes=SIZES, alone=st.integers(0, 9), seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_the_order_of_grouped_images_does_not_matter(sizes: list[int], alone: int, seed: int, order):
    everything = grouped_images(sizes, alone)
    shuffled = list(everything)
    order.shuffle(shuffled)
    assert set(split_normals(shuffled, 0.2, seed)[1]) == set(split_normals(everything, 0.2, seed)[1])


@given(sizes=SIZES, joins=st.integers(-1, 19), fraction=st.floats(0.05, 0.5), seed=st.integers(0, 99))
def test_one_more_image_moves_few_others(sizes: list[int], joins: int, fraction: float, seed: int):
    """To an existing group, a new one, or to none."""
    new = NormalImage("new.png", Path("new.png"), group=None if joins < 0 else f"g{joins}")
    before = set(split_normals(grouped_images(sizes), fraction, seed)[1])
    after = set(split_normals([*grouped_images(sizes), new], fraction, seed)[1])
    assert len((before ^ after) - {new}) <= 3 * (max(sizes) + 1)


@given(size=st.integers(1, 9), number=st.integers(MIN_GROUPS, 20), seed=st.integers(0, 99))
def test_groups_of_one_size_are_split_like_single_images(size: int, number: int, seed: int):
    _, held_out = split_normals(grouped_images([size] * number), 0.2, seed)
    assert len(held_out) == size * max(
        1, round(0.2 * size * number) // size + (round(0.2 * size * number) % size > size / 2)
    )


def test_a_group_larger_than_what_is_wanted_trains():
    _, held_out = split_normals(grouped_images([500, 40, 5, 5, 5]), 0.02, 0)  # 11 of 555
    assert {image.group for image in held_out} <= {"g2", "g3", "g4"} and len(held_out) == 10
    for seed in range(20):
        held_out = split_normals(grouped_images([50] * 6), 0.1, seed)[1]  # 30 are wanted, and 50 are nearer than none
        assert len(held_out) == 50 and len({image.group for image in held_out}) == 1


def test_fewer_than_five_groups_are_split_image_by_image():
    few = grouped_images([10] * (MIN_GROUPS - 1))
    _, held_out = split_normals(few, 0.1, 0)
    assert [i.key for i in held_out] == [i.key for i in split_normals(images(40), 0.1, 0)[1]] and len(held_out) == 4
    _, held_out = split_normals(grouped_images([8] * MIN_GROUPS), 0.1, 0)
    assert len(held_out) == 8 and len({image.group for image in held_out}) == 1


def test_a_group_is_not_taken_for_an_image_of_the_same_name():
    everything = [NormalImage("a.png", Path(), group="b.png"), NormalImage("b.png", Path()), *images(10)]
    sides = [split_normals(everything, 0.5, seed)[1] for seed in range(30)]
    assert {frozenset(i.key for i in side) & {"a.png", "b.png"} for side in sides} >= {
        frozenset({"a.png"}),
        frozenset({"b.png"}),
    }
