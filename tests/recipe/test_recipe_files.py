"""Recipe files: what they say, and how mistakes in them are reported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flawmap.errors import UserError
from flawmap.recipe.checks import validate
from flawmap.recipe.files import PRESETS, load_recipe, preset_path, preset_summary, recipe_path, to_yaml
from flawmap.recipe.settings import (
    ComputeSettings,
    DataSettings,
    DetectSettings,
    FinetuneSettings,
    MaskingSettings,
    ModelSettings,
    PretrainSettings,
    Recipe,
    SimulationSettings,
)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes recipe files below the current folder, so that messages have short paths."""
    monkeypatch.chdir(tmp_path)

    def to(name: str, text: str) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        return name

    return to


def mistake(source: str | Path | None = None, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_recipe(source, overrides)
    return caught.value


# ---- what a recipe says


def test_no_file_and_an_empty_file_are_the_defaults(write):
    assert load_recipe() == Recipe()
    assert load_recipe(write("empty.yaml", "# nothing but a comment\n")) == Recipe()


def test_a_file_changes_what_it_names_and_nothing_else(write):
    text = """
    seed: 3
    method: paper
    pretrain:
      enabled: true
      masking:
        drop_ratio: 0.15
    detect:
      sizes_px: [140, 224]
    """
    expected = Recipe(
        seed=3,
        method="paper",
        pretrain=PretrainSettings(enabled=True, masking=MaskingSettings(drop_ratio=0.15)),
        detect=DetectSettings(sizes_px=(140, 224)),
    )
    assert load_recipe(write("my.yaml", text)) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_says_all_it_means(name, tmp_path):
    recipe = load_recipe(name)
    validate(recipe)
    assert recipe_path(name) == preset_path(name)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(again) == recipe


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_what_it_is_for(name):
    assert 20 < len(preset_summary(name)) < 118
    assert preset_path(name).read_text(encoding="utf-8").startswith(f"# {preset_summary(name)}\n#\n#   flawmap ")


def test_the_defaults_are_the_recommended_recipe():
    assert Recipe() == load_recipe() == load_recipe("standard")


@pytest.mark.parametrize("name", ["standard", "quick", "chest_xray", "paper"])
def test_a_main_preset_is_complete_in_one_file_with_a_comment_per_setting(name):
    text, recipe = preset_path(name).read_text(encoding="utf-8"), load_recipe(name)
    settings = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert "base" not in yaml.safe_load(text)
    assert all("  # " in line for line in settings)
    given, used = _flat(yaml.safe_load(text)), _flat(yaml.safe_load(to_yaml(recipe)))
    assert used.items() <= given.items()
    assert {key.split(".")[0] for key in given.keys() - used.keys()} <= {"pretrain"}  # for who enables stage 1


def _flat(group: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in group.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": str(value)}
    return flat


def test_the_paper_preset_is_the_letter_of_the_paper():
    recipe = load_recipe("paper")
    assert (recipe.pretrain.epochs, recipe.finetune.epochs, recipe.pretrain.batch_size) == (300, 100, 16)
    assert (recipe.pretrain.masking.drop_ratio, recipe.pretrain.prototypes) == (0.3, 20)
    assert (recipe.data.image_size_px, len(recipe.detect.sizes_px)) == (224, 6)
    assert recipe.model.weights == "dino_vits16"


def test_numbers_and_text_are_read_as_yaml_1_2(write):
    text = """
    pretrain: {enabled: true, learning_rate: 5e-4, weight_decay: 1}
    data: {normal: no, masks: 010, anomalous: ~}
    """
    recipe = load_recipe(write("my.yaml", text))
    assert recipe.pretrain.learning_rate == 0.0005
    assert recipe.pretrain.weight_decay == 1.0
    assert isinstance(recipe.pretrain.weight_decay, float)
    assert (recipe.data.normal, recipe.data.masks, recipe.data.anomalous) == ("no", "010", None)


def test_a_base_is_a_preset_or_a_file_beside_this_one(write):
    write("shared/base.yaml", "base: paper\nseed: 1\nfinetune:\n  batch_size: 8\n")
    file = write("shared/mine/my.yaml", "base: ../base.yaml\nseed: 2\n")
    paper = load_recipe("paper")
    assert load_recipe(file) == replace(paper, seed=2, finetune=replace(paper.finetune, batch_size=8))


def test_overrides_come_last_and_the_last_of_them_wins(write):
    file = write("my.yaml", "seed: 2\n")
    assert load_recipe(file, ["seed=4"]).seed == 4
    assert load_recipe(file, ["seed=4", "seed=5"]).seed == 5


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.mask_pattern={stem}_img", DataSettings(mask_pattern="{stem}_img")),
        ("data.normal=OK", DataSettings(normal="OK")),
        ("data.normal=", DataSettings(normal=None)),
        ("data.normal=null", DataSettings(normal=None)),
        ("data.normal='null'", DataSettings(normal="null")),
        ("data.normal=good: 1, a=b #2", DataSettings(normal="good: 1, a=b #2")),
        ("data.normal=2024", DataSettings(normal="2024")),
        ("data.train_subset=12", DataSettings(train_subset=12)),
        ("data.train_subset = 12", DataSettings(train_subset=12)),
    ],
)
def test_overrides_take_text_as_it_stands(override, expected):
    assert load_recipe(None, [override]).data == expected


def test_one_test_size_need_not_be_a_list():
    assert load_recipe("paper", ["detect.sizes_px=[140, 224]"]).detect.sizes_px == (140, 224)
    assert load_recipe("paper", ["detect.sizes_px=140"]).detect.sizes_px == (140,)


def test_whole_numbers_become_floats_in_lists_too():
    weights = load_recipe(None, ["fusion.map_weights=[1, 2]"]).fusion.map_weights
    assert weights == (1.0, 2.0) and all(type(weight) is float for weight in weights)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_epochs_and_steps_replace_each_other(stage, write):
    def of(recipe: Recipe) -> tuple[int | None, int | None]:
        return getattr(recipe, stage).epochs, getattr(recipe, stage).steps

    file = write("my.yaml", f"base: paper\n{stage}:\n  steps: 50\n")  # both stages are used, and the paper has epochs
    assert of(load_recipe(file)) == (None, 50)
    assert of(load_recipe(file, [f"{stage}.epochs=2"])) == (2, None)
    assert of(load_recipe(write("on_top.yaml", f"base: my.yaml\n{stage}:\n  epochs: 7\n"))) == (7, None)
    both = mistake(None, f"{stage}.steps=5", f"{stage}.epochs=2")
    assert f"{stage}.epochs is 2 and {stage}.steps is 5" in both.problem


# ---- mistakes: problem, place, remedy


def test_an_unknown_key_names_its_line_and_what_was_meant(write):
    text = "seed: 1\npretrain:\n  epochs: 5\n  masking:\n    strategy: random\n    dropratio: 0.2\n"
    error = mistake(write("recipes/my.yaml", text))
    assert error.problem == ("unknown key pretrain.masking.dropratio; did you mean pretrain.masking.drop_ratio?")
    assert error.place == f"{Path('recipes/my.yaml')} line 6"
    assert "flawmap recipe " in error.remedy


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("masking.drop_ratio", "pretrain.masking.drop_ratio"),
        ("masking", "pretrain.masking"),
        ("finetune.step", "finetune.steps"),
        ("learning_rate", "pretrain.learning_rate or finetune.learning_rate or residual.learning_rate"),
        ("pretrian", "pretrain"),
        ("masking.dropratio", "pretrain.masking.drop_ratio"),
    ],
)
def test_an_unknown_override_names_what_was_meant(key, meant):
    error = mistake(None, f"{key}=1")
    assert error.problem == f"unknown key {key}; did you mean {meant}?"
    assert error.place == f"--set {key}=1"


def test_nothing_is_suggested_where_nothing_is_near():
    assert mistake(None, "zzz.qqq=1").problem == "unknown key zzz.qqq"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("pretrain.masking.drop_ratio=1.5", "pretrain.masking.drop_ratio is 1.5, must be between 0 and 0.9"),
        ("pretrain.masking.drop_ratio=.nan", "pretrain.masking.drop_ratio is '.nan', must be a number"),
        ("pretrain.learning_rate=1e999", "pretrain.learning_rate is inf, must be between 0 and 10"),
        ("pretrain.steps=1e3", "pretrain.steps is 1000, must be a whole number"),
        ("pretrain.batch_size=true", "pretrain.batch_size is True, must be a whole number"),
        ("pretrain.batch_size=null", "pretrain.batch_size is null, must be a whole number"),
        ("pretrain.temperature=warm", "pretrain.temperature is 'warm', must be a number"),
        ("pretrain.temperature=true", "pretrain.temperature is True, must be a number"),
        ("pretrain.enabled=no", "pretrain.enabled is 'no', must be true or false"),
        ("pretrain.enabled=1", "pretrain.enabled is 1, must be true or false"),
        ("detect.sizes_px=[]", "detect.sizes_px is [], must be one value or more"),
        ("detect.sizes_px=[224, 2]", "detect.sizes_px is 2, must be between 28 and 4096"),
        ("detect.sizes_px=224,320", "detect.sizes_px is '224,320', must be a whole number"),
        ("fusion.map_weights=[1, 2, 3]", "fusion.map_weights is [1, 2, 3], must be 2 values"),
        ("fusion.map_weights=1", "fusion.map_weights is 1, must be 2 values"),
        (
            "finetune.simulation.blend=poison",
            "finetune.simulation.blend is 'poison', must be one of hard, mixed, poisson; did you mean poisson?",
        ),
        ("pretrain=5", "pretrain is a group of settings, not a value"),
        ("data.train_subset=[1", "the value of data.train_subset cannot be read"),
        ("seed", "--set seed has no value"),
    ],
)
def test_a_wrong_value_is_refused(override, problem):
    error = mistake(None, override)
    assert error.problem == problem
    assert error.place == f"--set {override}"
    assert error.remedy


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("seed: 1\ndata:\n  normal: 2024\n", 3, "data.normal is 2024, must be text"),
        ("seed: 1\nseed: 1\n", 2, "seed is given twice"),
        ("data:\n  masks: a\nseed: 1\ndata:\n  normal: b\n", 4, "data is given twice"),
        ("pretrain:\n", 1, "pretrain is a group of settings, not a value"),
        ("seed: {a: 1}\n", 1, "seed is {'a': 1}, must be a whole number"),
        ("? [a, b]\n: 1\n", 1, "unknown key [...]"),
        ("- seed\n", 1, "a recipe consists of `name: value` lines"),
        ("\n5\n", 2, "a recipe consists of `name: value` lines"),
        ("seed: !!python/name:os.system\n", 1, "the recipe cannot be read: could not determine a constructor"),
        ("seed: 1\n bad: 2\n", 2, "the recipe cannot be read: mapping values are not allowed here"),
        ("base: standrad\n", 1, "no such base: standrad; did you mean standard?"),
        ("base: [paper]\n", 1, "base is ['paper'], must be a recipe"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(text, line, problem, write):
    error = mistake(write("my.yaml", text))
    assert error.problem.startswith(problem)
    assert error.place == f"my.yaml line {line}"
    assert error.remedy


def test_a_file_that_is_not_text_is_refused(write, tmp_path):
    (tmp_path / "image.yaml").write_bytes(b"\x89PNG\xff\xfe")
    assert mistake("image.yaml").problem.startswith("the recipe cannot be read")


def test_recipes_that_are_their_own_base_are_refused(write):
    write("sub/a.yaml", "base: ../b.yaml\n")
    error = mistake(write("b.yaml", "base: sub/a.yaml\n"))
    assert error.problem == "a recipe is its own base"


def test_no_such_recipe(write, tmp_path):
    error = mistake("standrad")
    assert error.problem == "no recipe called 'standrad'; did you mean standard?"
    assert "presets are quick, standard, " in error.remedy
    error = mistake("mine/my.yaml")
    assert error.problem == f"no such recipe file: {Path('mine/my.yaml')}"
    assert error.place == f"you are in {tmp_path}"
    write("run/recipe.yaml", "seed: 1\n")
    error = mistake("run")
    assert error.problem == "run is a folder, not a recipe"
    assert str(Path("run/recipe.yaml")) in error.remedy


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        (Recipe(pretrain=PretrainSettings(steps=5)), "pretrain.steps"),
        (Recipe(finetune=FinetuneSettings(epochs=None)), "finetune.epochs"),
        (Recipe(method="paper", compute=ComputeSettings(precision="int8")), "trains its encoder, which int8 cannot"),
        (Recipe(seed=-1), "seed is -1, must be between 0 and"),
        (Recipe(model=ModelSettings(drop_path_rate=float("nan"))), "model.drop_path_rate is nan"),
        (Recipe(finetune=FinetuneSettings(simulation=SimulationSettings(min_size=0.5))), "min_size is 0.5"),
    ],
)
def test_recipes_built_in_python_are_held_to_the_same_rules(recipe, names):
    with pytest.raises(UserError) as caught:
        validate(recipe)
    assert names in caught.value.problem


def test_a_file_that_sets_what_its_method_does_not_use_is_refused(write):
    """Without its base, a file for the paper's method would train the recommended one."""
    path = write("no_base.yaml", "finetune:\n  steps: 10\n")
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert caught.value.problem == "finetune.steps has no effect on method fused, only on paper"
    assert caught.value.place == f"{path} line 2"
    assert "base: paper" in caught.value.remedy
    assert load_recipe(path, ["method=paper", "finetune.epochs=null"]).finetune.steps == 10
    based = write("based.yaml", "base: paper\nfinetune:\n  steps: 10\n")
    assert load_recipe(based).finetune.steps == 10
    assert load_recipe(based, ["method=memory", "detect.image_score=mean_logit"]).method == "memory"
    ours = write("ours.yaml", "base: standard\nmethod: memory\n")  # what only the base sets may go unused
    assert load_recipe(ours).method == "memory"
