"""The table of settings, what each method uses of it, and how a recipe is written and read back."""

from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

import hypothesis
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flawmap.recipe.checks import validate
from flawmap.recipe.fields import Setting, is_used, resolved, settings_and_groups, with_values
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.recipe.settings import DataSettings, FinetuneSettings, PretrainSettings, Recipe

SETTINGS = {key: setting for key, setting in settings_and_groups().items() if not setting.is_group}


# ---- the table of ranges


def _numeric(setting: Setting) -> bool:
    return bool({int, float} & {*setting.types, *(arg for kind in setting.types for arg in get_args(kind))})


def test_every_number_has_a_range_that_holds_its_default():
    assert all(_numeric(setting) == (setting.limits is not None) for setting in SETTINGS.values())
    assert all(setting.limits[0] < setting.limits[1] for setting in SETTINGS.values() if setting.limits)
    validate(Recipe())


def test_every_setting_and_group_says_what_it_means():
    assert all(8 < len(setting.meaning) < 100 for setting in settings_and_groups().values())


# ---- what a method uses


def test_a_method_uses_its_own_groups():
    def groups_of(method: str) -> set[str]:
        return set(yaml.safe_load(to_yaml(load_recipe(None, [f"method={method}"]))))

    shared = {"seed", "method", "data", "model", "pretrain", "detect", "calibration", "compute"}
    assert groups_of("paper") == shared | {"finetune"}
    assert groups_of("memory") == shared | {"memory", "expectation"}
    assert groups_of("residual") == shared | {"memory", "expectation", "residual"}
    assert groups_of("fused") == shared | {"memory", "expectation", "residual", "fusion"}


def test_stage_1_has_no_settings_unless_it_is_enabled():
    assert yaml.safe_load(to_yaml(load_recipe("paper_chest_xray")))["pretrain"] == {"enabled": False}
    assert yaml.safe_load(to_yaml(load_recipe("paper")))["pretrain"]["masking"]["drop_ratio"] == 0.3
    assert not is_used("pretrain.masking", Recipe()) and is_used("pretrain.enabled", Recipe())


def test_test_sizes_are_the_papers_alone():
    assert "sizes_px" not in yaml.safe_load(to_yaml(Recipe()))["detect"]
    assert yaml.safe_load(to_yaml(load_recipe("paper")))["detect"]["sizes_px"][0] == 224


def test_what_a_method_does_not_use_makes_no_difference():
    assert load_recipe("standard", ["finetune.steps=5", "pretrain.prototypes=3"]) == load_recipe("standard")
    built = replace(Recipe(), finetune=FinetuneSettings(batch_size=3))
    assert resolved(built) == Recipe() != built
    assert load_recipe("standard", ["method=paper", "finetune.steps=5"]).finetune.steps == 5


def test_every_written_setting_has_its_meaning():
    for line in to_yaml(load_recipe("paper")).splitlines():
        assert line.partition("  # ")[2]


# ---- writing and reading back


def _value_of(setting: Setting) -> st.SearchStrategy:
    low, high = setting.limits or (0, 0)
    kinds = []
    for option in setting.types:
        if option is type(None):
            kinds.append(st.none())
        elif get_origin(option) is Literal:
            kinds.append(st.sampled_from(get_args(option)))
        elif get_origin(option) is tuple:
            if get_args(option) == (float, float):
                kinds.append(st.tuples(st.floats(low, high), st.floats(low, high)))
            else:
                kinds.append(st.lists(st.integers(int(low), int(high)), min_size=1, max_size=4).map(tuple))
        elif option is bool:
            kinds.append(st.booleans())
        elif option is int:
            kinds.append(st.integers(int(low), int(high)))
        elif option is float:
            kinds.append(st.floats(low, high))
        else:
            tricky = [
                "no",
                "5e-4",
                "1_0",
                "0x1f",
                "010",
                "1:30",
                "2024-11-24",
                "null",
                "~",
                "=",
                "<<",
                "{stem}",
                " a",
                "",
            ]
            kinds.append(st.sampled_from(tricky) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
    return st.one_of(kinds)


def _recipe_of(values: dict[str, Any]) -> Recipe:
    """A recipe with these values, changed where they would contradict each other."""
    values = dict(values)
    for stage in ("pretrain", "finetune"):
        values[f"{stage}.steps"] = None if values[f"{stage}.epochs"] else 5
    for low, high in (("min_size", "max_size"), ("min_scale", "max_scale")):
        for stage in ("finetune", "residual"):
            first, second = f"{stage}.simulation.{low}", f"{stage}.simulation.{high}"
            values[first], values[second] = sorted((values[first], values[second]))
    if values["method"] != "paper":
        values["detect.image_score"] = "mean_logit"
        values["memory.blocks"] = tuple(sorted(set(values["memory.blocks"])))
    elif values["compute.precision"] == "int8":
        values["compute.precision"] = "auto"
    if values["calibration.folds"] == 1:
        values["calibration.folds"] = 0
    values["compute.devices"] = values["compute.nodes"] = 1
    values["data.tiles"] = "auto" if values["data.tiles"] or values["data.smallest_defect_px"] else "512"
    values["finetune.detection_weight"] = values["finetune.detection_weight"] or 1.0
    if "{stem}" not in values["data.mask_pattern"]:
        values["data.mask_pattern"] += "{stem}"
    if values["data.group_by"] is not None:
        values["data.group_by"] = "{group}_" + values["data.group_by"].replace("{group}", "")
    if values["data.product_by"] is not None:
        values["data.product_by"] = "{product}_" + values["data.product_by"].replace("{product}", "")
    values["data.pretrain_on"] = (values["data.pretrain_on"] or "").strip() or None
    for name in ("fusion.map_weights", "fusion.image_weights"):
        values[name] = values[name] if any(values[name]) else (0.0, 1.0)
    return with_values(Recipe(), values)


# Values, not recipes, are drawn: checking a recipe's types uses `random`, which strategies must not.
VALUES = st.fixed_dictionaries({key: _value_of(setting) for key, setting in SETTINGS.items()})


@hypothesis.settings(deadline=None, max_examples=25)
@given(values=VALUES)
def test_what_is_written_reads_back_equal(values, tmp_path_factory):
    recipe = _recipe_of(values)
    file = tmp_path_factory.getbasetemp() / "read_back.yaml"
    file.write_text(to_yaml(recipe), encoding="utf-8", newline="")
    assert load_recipe(file) == resolved(recipe)
    assert to_yaml(load_recipe(file)) == to_yaml(recipe)


def test_what_is_written_means_the_same_to_yaml_1_1():
    data = DataSettings(normal="no", masks="5e-4", anomalous="null")
    text = to_yaml(Recipe(data=data, pretrain=PretrainSettings(enabled=True)))
    assert yaml.safe_load(text)["data"]["normal"] == "no"
    assert yaml.safe_load(text)["data"]["masks"] == "5e-4"
    assert yaml.safe_load(text)["data"]["anomalous"] == "null"
    assert yaml.safe_load(text)["pretrain"]["final_learning_rate"] == 1e-6
