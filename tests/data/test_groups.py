"""Which images belong together, by a folder or by a pattern of their names, and what is said about it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assertions import mistake
from flawmap.data.groups import (
    are_too_few,
    grouped,
    grouped_as_trained,
    groups_in_words,
    groups_of,
    identities,
    refuse_shared_groups,
    refuse_unmatched,
)
from flawmap.data.sample import LabelledImage, NormalImage
from flawmap.recipe.files import load_recipe

WORD = st.text("abcXYZ019-äßλ ", min_size=1, max_size=6).map(str.strip).filter(bool)


def image(key: str, group: str | None = None) -> NormalImage:
    return NormalImage(key, Path(key), group=group)


def group_of(key: str, group_by: str) -> str | None:
    return grouped([image(key)], group_by)[0].group


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("day 1/a.png", "day 1"),
        ("line2/2024-05-01/a.png", "line2/2024-05-01"),  # the same day of another line is another group
        ("Straße/ä.png", "Straße"),
        ("../other/a.png", "../other"),
        ("a.png", None),  # beside the manifest, or directly in the folder that was given
    ],
)
def test_a_folder_is_a_group(key: str, group: str | None):
    assert group_of(key, "folder") == group


@pytest.mark.parametrize(
    ("pattern", "key", "group"),
    [
        ("{group}_*", "P12_left_003.png", "P12"),  # as short as it can be
        ("{group}_???", "board_12_003.png", "board_12"),
        ("board_{group}_*", "scans/board_12_003.png", "12"),
        ("*_{group}", "cam1_top_LOT7.png", "LOT7"),
        ("*_{group}.*", "cam1_LOT7.png", "LOT7"),
        ("LOT-{group}.bmp", "LOT-7.bmp", "7"),
        ("LOT-{group}.bmp", "LOT-7.png", None),
        ("{group} (*)", "Teil 5 (2).jpg", "Teil 5"),  # as Windows numbers copies
        ("{group}_*", "部品七_01.png", "部品七"),
        ("té{group}_*", "te\u03019_1.png", "9"),  # one sign in the pattern, two in the name
        ("{group}/*", "patients/P1/000.dcm", "P1"),
        ("{group}/*/*", "P1/study/000.dcm", "P1"),
        ("{group}\\*", "lots/7/a.png", "7"),
        ("{group}/*", "a.png", None),
        ("lot{group}/*_{part}", "lot3/x_{part}.png", "3"),  # other braces are plain signs
        ("{group}_*", "P12.png", None),
        ("{group}_*", "_12.png", None),
        ("P(1|2){group}_*", "P12_1.png", None),  # a pattern is no regular expression
    ],
)
def test_a_pattern_names_the_group(pattern: str, key: str, group: str | None):
    assert group_of(key, pattern) == group


@given(first=WORD, second=WORD, folder=WORD)
def test_a_pattern_takes_what_lies_before_the_first_sign(first: str, second: str, folder: str):
    assert group_of(f"{folder}/{first}_{second}.tar.png", "{group}_*") == first
    assert group_of(f"{folder}/{first}_{second}.tar.png", f"{folder}/{{group}}_*") == first
    assert group_of(f"{first}/{second}.png", "folder") == group_of(f"{first}/{second}.png", "{group}/*") == first


def test_groups_that_the_data_names_stay_unless_a_setting_says_otherwise():
    images = [image("a_1.png", "7"), image("b.png")]
    assert grouped(images, None) == tuple(images)
    assert [i.group for i in grouped(images, "image")] == [None, None]
    assert [i.group for i in grouped(images, "{group}_*")] == ["a", None]


def test_names_of_the_data_count_before_those_of_the_training():
    named, plain = [image("a_1.png", "7"), image("b_1.png")], [image("a_1.png"), image("b_1.png")]
    assert [i.group for i in grouped_as_trained(named, "{group}_*")] == ["7", None]
    assert [i.group for i in grouped_as_trained(plain, "{group}_*")] == ["a", "b"]
    assert grouped_as_trained(plain, None) == tuple(plain)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("lot", "and has to hold {group} once"),
        ("", "and has to hold {group} once"),
        (r"(?P<group>P\d+)_.*", "and has to hold {group} once"),
        ("{group}/{group}_*", "and has to hold {group} once"),
        ("{group}*", "which does not say where the group ends: put a sign between {group} and *"),
        ("*{group}.png", "which does not say where the group ends: put a sign between {group} and *"),
        ("{group}?*", "which does not say where the group ends: put a sign between {group} and *"),
    ],
)
def test_a_pattern_that_says_nothing_is_refused(wrong: str, problem: str):
    with mistake(f"data.group_by is {wrong!r}, {problem}", "data.group_by", "'{group}_*'"):
        load_recipe(None, [f'data.group_by="{wrong}"' if not wrong else f"data.group_by={wrong}"])


@pytest.mark.parametrize("right", ["folder", "image", "{group}_*", "*-{group}-*", "{group}/*", "{group}"])
def test_a_pattern_that_says_something_is_taken(right: str):
    assert load_recipe(None, [f"data.group_by={right}"]).data.group_by == right
    assert load_recipe(None, ["data.group_by=null"]).data.group_by is None


def test_a_pattern_that_matches_no_image_is_refused():
    images = grouped([image("a-1.png"), image("a-2.png")], "{group}_*")
    problem = "no image matches data.group_by={group}_*, for example not a-1.png"
    with mistake(problem, "parts", "--set 'data.group_by={group}_*'"):
        refuse_unmatched(images, "{group}_*", "parts")
    refuse_unmatched([*images, image("a_3.png", "a")], "{group}_*", "parts")  # one match is enough
    refuse_unmatched(images, "folder", "parts")
    refuse_unmatched(images, None, "parts")


def test_an_image_without_a_group_is_one_of_its_own():
    images = [image("a", "b"), image("b"), image("c", "b"), image("d")]
    first, second, third, fourth = identities(images)
    assert first == third and len({first, second, fourth}) == 3
    assert groups_of(images) == {"b": "a"}


def test_groups_in_words():
    def words(*sizes: int, alone: int = 0, by: str | None = "patient") -> str | None:
        images = [image(f"{number}/{i}", str(number)) for number, size in enumerate(sizes) for i in range(size)]
        return groups_in_words([*images, *(image(str(i)) for i in range(alone))], by)

    assert words(3, 1, 2, 1, 1) == "5 groups (patient), largest 3 images"
    assert words(1, 1, 1, 1, 1, by=None) == "5 groups, largest 1 image"
    assert words(2, alone=1, by="{group}_*").startswith("1 group ({group}_*), largest 2 images; 1 more image belongs")
    assert (
        words(2, 2, alone=3)
        == "2 groups (patient), largest 2 images; 3 more images belong to none, each is a group of its own"
    )
    assert words(9, 9, 9) == (
        "3 groups (patient), largest 9 images; too few to split by (at least 5 are needed): split by image"
    )
    assert words(alone=7) is None


def test_few_groups():
    assert not are_too_few([image("a"), image("b")])  # no group at all
    assert are_too_few([image("a", "1"), image("b", "2"), image("c", "2")])
    assert not are_too_few([image("a", "1"), *(image(str(i)) for i in range(4))])


def test_a_group_in_training_and_in_the_test_is_named_with_both_files():
    def tests(*groups: str | None) -> list[LabelledImage]:
        return [LabelledImage(f"test/{i}.png", Path(), False, "good", group=group) for i, group in enumerate(groups)]

    trained = {"P1": "train/a.png", "P2": "train/b.png"}
    refuse_shared_groups(tests("P3", None, "P4"), trained, "patient", "xray")
    problem = "patient 'P2' is in training and in the test: train/b.png and test/1.png"
    with mistake(problem, "xray", "other groups"):
        refuse_shared_groups(tests("P3", "P2", None), trained, "patient", "xray")
    problem = "group 'P1' is in training and in the test: train/a.png and test/0.png, and so is 1 more"
    with mistake(problem, "xray", "leave the images of a group out"):
        refuse_shared_groups(tests("P1", "P2"), trained, "{group}_*", "xray")
