"""Names of result files are possible on any system, whatever an image or a data set is called."""

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.deploy.batch import Job
from flawmap.recipe.settings import Recipe
from flawmap.runs.file_names import MAX_LENGTH, numbered_name, possible_name
from flawmap.runs.run_folder import create_run

ON_LINUX = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120)


def is_possible_on_windows(name: str) -> bool:
    """One part of a path, without forbidden characters, a device's name, and an end that Windows drops."""
    path = PureWindowsPath("C:/results", name)
    is_one_part = path.parent == PureWindowsPath("C:/results") and path.name == name
    has_forbidden = any(character in '<>:"/\\|?*' or ord(character) < 32 for character in name)
    return is_one_part and not has_forbidden and not name.endswith((" ", ".")) and not path.is_reserved()


@pytest.mark.parametrize(
    "name", ["part", "0003", "Teil №7", "a.b", "console", "com", "com10", "nullified", "lot 7", ".hidden"]
)
def test_a_possible_name_stays(name):
    assert is_possible_on_windows(name)
    assert possible_name(name) == name


@pytest.mark.parametrize(
    ("name", "possible"),
    [
        ("CON", "_CON"),
        ("aux.png", "_aux.png"),
        ("nul.tar.gz", "_nul.tar.gz"),
        ("COM1", "_COM1"),
        ("lpt9", "_lpt9"),
        ("a:b", "a_b"),
        ("cam\\left", "cam_left"),
        ('"a"?*|<>', "_a______"),
        ("line\nbreak", "line_break"),
        ("end.", "end"),
        ("end . ", "end"),
        ("..", "_"),
        ("x" * 300, "x" * MAX_LENGTH),
    ],
)
def test_an_impossible_name_becomes_a_similar_one(name, possible):
    assert possible_name(name) == possible


@given(ON_LINUX)
def test_any_name_becomes_possible_and_then_stays(name):
    possible = possible_name(name)
    assert is_possible_on_windows(possible)
    assert possible_name(possible) == possible
    assert len(f"anomaly_0000_{possible}.png".encode()) < 255


@given(ON_LINUX)
def test_pictures_of_any_image_are_possible(name):
    job = Job(Path(name), Path("detections"), numbered_name(3, PurePosixPath("in", name)))
    for verdict in ("anomaly", "ok"):
        assert is_possible_on_windows(f"{verdict}_{job.name}.png")


@pytest.mark.parametrize("name", ["nul", "lot 7: top?", "n" * 250])
def test_the_run_of_any_data_set_is_a_possible_folder(tmp_path, name):
    run = create_run(None, name, Recipe(), parent=tmp_path)
    assert is_possible_on_windows(run.path.name) and len(run.path.name) < 80
