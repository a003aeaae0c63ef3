"""The trial of updates: the halves of a data set, times that are kept, and its rows."""

from pathlib import Path

import pytest
import yaml

from flawmap.data.open_data import open_training_data
from flawmap.recipe.files import load_recipe
from flawmap_bench.trials import updates
from flawmap_bench.trials.updates import FIRST, TEN, TOGETHER, UPDATED, board_of, table, timed


def keys_of(location: str) -> set[str]:
    images = open_training_data(location, load_recipe("quick").data).images
    return {image.path.name for image in images}


def test_halves_are_every_second_image(mvtec_folder: Path, tmp_path: Path):
    board = board_of(str(mvtec_folder), load_recipe("quick"), tmp_path)
    one, other, both = keys_of(board.first), keys_of(board.others), keys_of(board.together)
    assert one | other == both and not one & other and len(one) == len(both) / 2
    assert keys_of(board.ten) <= other and len(keys_of(board.ten)) == 10
    assert sorted(both)[0] in one and sorted(both)[1] in other


def test_strata_are_learned_one_after_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(updates, "good_images", lambda location, recipe: [])
    board = board_of("some/where/elpv/cell=mono,poly", load_recipe("quick"), tmp_path)
    assert (board.name, board.together) == ("elpv, cell=mono,poly", "some/where/elpv")
    assert (board.first, board.others) == ("some/where/elpv:cell=mono", "some/where/elpv:cell=poly")


def test_work_is_done_once(tmp_path: Path):
    done: list[int] = []
    seconds = [timed(tmp_path / "a" / "x.time", lambda: done.append(1)) for _ in range(2)]
    assert len(done) == 1 and seconds[0] == seconds[1] >= 0


def test_rows_have_means_and_standard_errors():
    seeds = [
        {FIRST: {"image AUROC": value, "processor s": 10}}
        | {UPDATED: {"image AUROC": 1.0, "processor s": 2}, TOGETHER: {"image AUROC": 1.0, "processor s": 20}}
        | {TEN: {"processor s": 1.4}}
        for value in (0.9, 0.8)
    ]
    rows = table("b, 2 seeds", seeds)
    assert rows[0] == f"b, 2 seeds | {FIRST} | 85.0 ± 5.0 (2 seeds) | – | – | – | 10"
    assert rows[3] == f"b, 2 seeds | {TEN} | – | – | – | – | 1"


@pytest.mark.slow
def test_a_board_is_measured_and_gone_on_with(mvtec_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = tmp_path / "tiny.yaml"
    settings = {"data": {"image_size_px": 64}, "model": {"weights": "random", "architecture": "test_vit"}}
    recipe.write_text(
        yaml.safe_dump(settings | {"base": "quick", "method": "memory", "memory": {"blocks": [1, 2], "tokens": 40}})
    )
    arguments = ["updates", str(mvtec_folder), "--recipe", str(recipe), "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    updates.main()
    folder = next((tmp_path / "out").glob("*, halves")) / "seed-0"
    assert (folder / "two-steps" / "current.txt").read_text().strip() == "update-0002"
    monkeypatch.delattr(updates, "train_run")
    monkeypatch.delattr(updates, "update_run")
    updates.main()
