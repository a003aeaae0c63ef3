"""How a recipe is compared with presets."""

from pathlib import Path

import pytest

from flawmap.recipe.files import load_recipe
from flawmap.report.recipe_diff import RecipeDiff, recipe_diff
from flawmap.report.run_files import RunFiles, read_run
from flawmap.runs.run_folder import create_run


def run_of(folder: Path, preset: str, *changes: str, command: str = "") -> RunFiles:
    run = create_run(folder / "run", "tiles", load_recipe(preset, changes))
    run.write_environment({"command": command})
    return read_run(run.path)


@pytest.mark.parametrize("preset", ["quick", "standard", "paper", "chest_xray"])
def test_a_preset_differs_from_itself_in_nothing(tmp_path: Path, preset: str) -> None:
    assert recipe_diff(run_of(tmp_path, preset)) == RecipeDiff(preset, ())


def test_changed_settings_are_named_with_both_values(tmp_path: Path) -> None:
    diff = recipe_diff(run_of(tmp_path, "standard", "seed=7", "memory.blocks=[3, 5]"))
    assert diff is not None and diff.preset == "standard"
    assert [row[:2] for row in diff.rows] == [("seed", "7"), ("memory.blocks", "[3, 5]")]
    assert diff.rows[0][2] == str(load_recipe("standard").seed)


@pytest.mark.parametrize("words", ["--recipe quick", "--recipe=quick"])
def test_the_preset_of_the_command_counts_even_where_another_is_nearer(tmp_path: Path, words: str) -> None:
    diff = recipe_diff(run_of(tmp_path, "standard", command=f"flawmap train parts {words} --run x"))
    assert diff is not None and diff.preset == "quick" and len(diff.rows) >= 2


def test_without_a_preset_in_the_command_the_nearest_counts(tmp_path: Path) -> None:
    files = run_of(tmp_path, "standard", command="flawmap train parts --recipe my.yaml")
    assert recipe_diff(files) == RecipeDiff("standard", ())


def test_without_a_recipe_nothing_is_compared(tmp_path: Path) -> None:
    assert recipe_diff(RunFiles(tmp_path)) is None
