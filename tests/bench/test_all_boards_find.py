"""Boards below a folder: which are found, how they are called, and what is said where there is none."""

from pathlib import Path

import pytest

from flawmap.errors import UserError
from flawmap_bench.boards.all_boards import find
from flawmap_bench.boards.all_boards.find import find_boards
from flawmap_bench.protocols import MVTEC_AD, VISA
from images import noise, write_image


def category(root: Path) -> Path:
    """The folders of a category in MVTec AD layout, with an image to train and one to test."""
    write_image(root / "train" / "good" / "0.png", noise(0))
    write_image(root / "test" / "good" / "0.png", noise(1))
    return root


@pytest.fixture(autouse=True)
def elpv_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "elpv_path", lambda: Path("elpv"))


def test_data_sets_of_any_layout_are_found_one_folder_deeper_too(tmp_path: Path):
    category(tmp_path / "mvtec" / "screw")
    category(tmp_path / "widgets")
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih" / "manifest.csv").write_text("image,split,label\n", encoding="utf-8")
    write_image(tmp_path / "photos" / "0.png", noise(0))  # plain images are no board
    write_image(tmp_path / "half" / "test" / "good" / "0.png", noise(0))  # nothing to train
    category(tmp_path / "a" / "b" / "too_deep")
    boards = find_boards(tmp_path)
    assert [(board.name, board.is_xray) for board in boards] == [
        ("screw", False),
        ("nih", True),
        ("widgets", False),
        ("elpv", False),
    ]
    assert [board.benchmark for board in boards] == [MVTEC_AD, None, None, None]
    assert boards[0].location == str(tmp_path / "mvtec" / "screw")


def test_a_benchmark_is_its_categories_alone(tmp_path: Path):
    for name in ("carpet", "screw"):
        category(tmp_path / "mvtec" / name)
    boards = find_boards(tmp_path / "mvtec")
    assert [(board.name, board.benchmark) for board in boards] == [("carpet", MVTEC_AD), ("screw", MVTEC_AD)]
    assert [board.name for board in find_boards(tmp_path / "mvtec" / "screw")] == ["screw"]


def test_visa_is_found_as_it_was_published_and_as_it_is_split(tmp_path: Path):
    write_image(tmp_path / "raw" / "candle" / "Data" / "Images" / "Normal" / "0.JPG", noise(0))
    category(tmp_path / "split" / "1cls" / "pcb1")
    for root, name in (("raw", "candle"), ("split", "pcb1")):
        assert [(board.name, board.benchmark) for board in find_boards(tmp_path / root)] == [(name, VISA)]


def test_equal_names_are_told_apart(tmp_path: Path):
    for parent in ("first", "second"):
        category(tmp_path / parent / "screw")
    assert [board.name for board in find_boards(tmp_path)] == ["first/screw", "second/screw"]


def test_boards_are_chosen_by_name_in_the_order_of_the_words(tmp_path: Path):
    for name in ("carpet", "screw"):
        category(tmp_path / name)
    assert [board.name for board in find_boards(tmp_path, ["elpv", "screw"])] == ["elpv", "screw"]
    with pytest.raises(UserError) as caught:
        find_boards(tmp_path, ["screws"])
    assert "did you mean screw?" in caught.value.problem
    assert caught.value.remedy == "choose from --boards carpet,screw,elpv"


def test_a_folder_without_boards_is_an_error_with_what_was_expected(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        find_boards(tmp_path)
    assert caught.value.place == str(tmp_path) and caught.value.remedy.startswith("--root FOLDER")
    with pytest.raises(UserError, match="no such folder"):
        find_boards(tmp_path / "nowhere")
