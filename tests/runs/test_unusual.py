"""unusual/ of a run: what is written is read again, and what it says."""

import shlex
from pathlib import Path

import pytest

from flawmap.errors import UserError
from flawmap.recipe.settings import Recipe
from flawmap.runs.calibration import MapScale
from flawmap.runs.run_folder import create_run
from flawmap.runs.unusual import (
    Scoring,
    Unusual,
    UnusualImage,
    list_file,
    picture_file,
    read_unusual,
    what_to_do,
    write_unusual,
)


def found(*keys: str, n_scored: int = 300) -> Unusual:
    images = tuple(UnusualImage(key, 9.5 - number) for number, key in enumerate(keys))
    return Unusual(images, Scoring(n_scored, 3.25, MapScale(0.0, 4.0)))


@pytest.mark.parametrize("some", [found(), found("a.png"), found('b/"c", d.png', "ä\r.png")])
def test_what_is_written_is_read(tmp_path: Path, some: Unusual):
    write_unusual(tmp_path, some)
    assert read_unusual(tmp_path) == some


def test_no_limit_is_none(tmp_path: Path):
    few = Unusual((), Scoring(7, None, MapScale(0.0, 1.0)))
    write_unusual(tmp_path, few)
    assert read_unusual(tmp_path) == few


def test_a_run_in_which_nobody_looked_has_none_and_damage_is_explained(tmp_path: Path):
    assert read_unusual(tmp_path) is None and read_unusual(tmp_path / "missing") is None
    write_unusual(tmp_path, found("a.png"))
    (tmp_path / "scoring.json").write_text("{}")
    with pytest.raises(UserError, match=r"scoring\.json is damaged"):
        read_unusual(tmp_path)


def test_the_words():
    assert found().words == "none of 300 good images looks unusual"
    assert found("a.png").words == "1 of 300 good images looks unusual: a.png"
    assert found(*"abcde", n_scored=40).words == "5 of 40 good images look unusual: a, b, c and 2 more"
    assert found().sentence == "None of 300 good images looks unusual"


def test_the_commands_can_be_pasted(tmp_path: Path):
    run = create_run(tmp_path / "my run", "x", Recipe())
    look, again = what_to_do(run, ("my parts", Path("-odd")))
    assert shlex.split(look.partition("see them: ")[2]) == ["flawmap", "report", str(run.path)]
    copy, _, rest = again.partition("if some show defects: ")[2].partition(", delete")
    assert shlex.split(copy) == ["cp", str(list_file(run.unusual)), "defects.csv"]
    words = ["flawmap", "train", "my parts", "./-odd", "--recipe", str(run.recipe), "--leave-out", "defects.csv"]
    assert shlex.split(rest.partition(" and ")[2]) == words
    with_defects = shlex.split(what_to_do(run, ("my parts",), "/some where/known")[1].rpartition(" and ")[2])
    assert with_defects[:5] == ["flawmap", "train", "my parts", "--defects", "/some where/known"]
    skipping = shlex.split(what_to_do(run, ("my parts",), skip_unreadable=True)[1].rpartition(" and ")[2])
    assert skipping == ["flawmap", "train", "my parts", "--skip-unreadable", *words[4:]]


def test_pictures_lie_beside_the_list(tmp_path: Path):
    assert picture_file(tmp_path, 3, "map").parent == list_file(tmp_path).parent == tmp_path
    assert picture_file(tmp_path, 3, "map").name == "03_map.png"
