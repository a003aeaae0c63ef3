"""How a recipe is compared with presets, and what is said of stage 1."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.report.collapse import collapse_sentence, num_prototypes
from flawmap.report.recipe_diff import RecipeDiff, recipe_diff
from flawmap.report.run_files import read_run


def run_of(folder: Path, preset: str, *changes: str, command: str = "") -> Path:
    (folder / "recipe.yaml").write_text(to_yaml(load_recipe(preset, changes)))
    (folder / "environment.json").write_text(json.dumps({"command": command}))
    return folder


@pytest.mark.parametrize("preset", ["quick", "standard", "paper", "chest_xray"])
def test_a_preset_differs_from_itself_in_nothing(tmp_path: Path, preset: str) -> None:
    assert recipe_diff(read_run(run_of(tmp_path, preset))) == RecipeDiff(preset, ())


def test_changed_settings_are_named_with_both_values(tmp_path: Path) -> None:
    run = run_of(tmp_path, "standard", "seed=7", "memory.blocks=[4, 8]")
    diff = recipe_diff(read_run(run))
    assert diff is not None and diff.preset == "standard"
    assert [row[:2] for row in diff.rows] == [("seed", "7"), ("memory.blocks", "[4, 8]")]
    assert diff.rows[0][2] == str(load_recipe("standard").seed)


@pytest.mark.parametrize("words", ["--recipe quick", "--recipe=quick"])
def test_the_preset_of_the_command_counts_even_where_another_is_nearer(tmp_path: Path, words: str) -> None:
    diff = recipe_diff(read_run(run_of(tmp_path, "standard", command=f"flawmap train parts {words} --run x")))
    assert diff is not None and diff.preset == "quick" and len(diff.rows) >= 2
    unnamed = recipe_diff(read_run(run_of(tmp_path, "standard", command="flawmap train parts --recipe my.yaml")))
    assert unnamed == RecipeDiff("standard", ())


def test_a_recipe_of_another_version_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("no_such_setting: 3\n")
    assert recipe_diff(read_run(tmp_path)) is None
    assert recipe_diff(replace(read_run(tmp_path), recipe="")) is None


def test_collapse_is_judged_by_the_entropy_of_the_last_steps() -> None:
    early = [{"stage": "pretrain", "target_entropy": math.log(20), "prototypes_used": 1}] * 5
    late = [{"stage": "pretrain", "target_entropy": 2.5, "prototypes_used": 12, "prototypes_used_recently": 17}] * 20
    sentence = collapse_sentence([*early, *late, {"stage": "finetune", "loss": 1.0}], 20)
    assert sentence.startswith("At the end of stage 1 17 of 20 prototypes are in use")
    assert sentence.endswith("2.50 of at most ln 20 = 3.00 (83%): not collapsed.")
    assert "collapsed: uniform targets" in collapse_sentence(early * 4, 20)
    assert collapse_sentence(late, None).endswith("17 prototypes are in use; the targets' entropy is 2.50.")
    assert collapse_sentence([{"stage": "finetune", "loss": 1.0}], 20) == ""


def test_the_number_of_prototypes_is_that_of_our_objective() -> None:
    assert num_prototypes(to_yaml(load_recipe("paper"))) == 20
    assert num_prototypes(to_yaml(load_recipe("paper", ["pretrain.objective=dino"]))) is None
    assert num_prototypes("") is None
    assert num_prototypes("[1, 2]") is None
    assert num_prototypes("a: [") is None
