"""Settings that are gone: a recipe that flawmap wrote is still read, and a wish that no longer counts is refused."""

from pathlib import Path

import pytest

from flawmap.errors import UserError
from flawmap.recipe.fields import settings_and_groups
from flawmap.recipe.files import load_recipe
from flawmap.recipe.retired import RETIRED


def written(folder: Path, key: str, value: object) -> Path:
    group, name = key.split(".")
    path = folder / "mine.yaml"
    path.write_text(f"base: quick\n{group}:\n  {name}: {value}\n")
    return path


@pytest.mark.parametrize("key", list(RETIRED))
def test_the_old_default_says_nothing_and_another_value_is_refused_with_what_to_do(tmp_path: Path, key: str):
    assert key not in settings_and_groups()
    assert load_recipe(written(tmp_path, key, RETIRED[key].default)) == load_recipe("quick")
    path = written(tmp_path, key, 12345)
    with pytest.raises(UserError, match="no longer a setting") as caught:
        load_recipe(path)
    assert caught.value.place == f"{path} line 3" and caught.value.remedy == RETIRED[key].remedy
    assert load_recipe(path, is_of_model=True) == load_recipe("quick")  # how a model was trained is a fact


@pytest.mark.parametrize("key", list(RETIRED))
def test_an_override_of_a_setting_that_is_gone_is_refused(key: str):
    with pytest.raises(UserError, match="no longer a setting") as caught:
        load_recipe("quick", [f"{key}={RETIRED[key].default}"])
    assert caught.value.place == f"--set {key}={RETIRED[key].default}"


def test_a_base_of_a_models_recipe_may_name_them_too(tmp_path: Path):
    written(tmp_path, "residual.batch_size", 99)
    child = tmp_path / "child.yaml"
    child.write_text("base: mine.yaml\nseed: 5\n")
    with pytest.raises(UserError, match="no longer a setting"):
        load_recipe(child)
    assert load_recipe(child, is_of_model=True).seed == 5
