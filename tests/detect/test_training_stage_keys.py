"""What determines a stage's result, and so whether runs share it. No step of training is made here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flawmap.data.sample import NormalImage
from flawmap.detect.fit import fit_scorer
from flawmap.engine.compute import Compute
from flawmap.paper import fit as paper_fit
from flawmap.recipe.settings import ModelSettings, Recipe
from flawmap.vit.weights import load_encoder

pytestmark = pytest.mark.usefixtures("small_heads")


@pytest.fixture
def stages_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that would have been trained: their modules stay as they were initialised."""
    names: list[str] = []
    monkeypatch.setattr(paper_fit, "train", lambda module, views, count, plan, stage, _: names.append(stage.name))
    return names


@pytest.fixture
def keys_of(normal_images, tiny_recipe, new_run, cpu, stages_run) -> Callable[..., dict[str, str]]:
    """Makes the keys of both stages for a recipe, images and device."""
    number = iter(range(1000))

    def keys(recipe: Recipe = tiny_recipe, images=normal_images, compute: Compute = cpu) -> dict[str, str]:
        return fit_scorer(images, recipe, new_run("run", f"shelf {next(number)}"), compute).stage_keys

    return keys


# ---- keys


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        (None, {"seed": 1}),
        ("data", {"image_size_px": 48}),
        ("model", {"drop_path_rate": 0.0}),
        ("model", {"architecture": "vit_tiny_patch16_224"}),
        ("pretrain", {"epochs": 3}),
        ("pretrain", {"learning_rate": 1e-3}),
        ("pretrain", {"batch_size": 5}),
        ("pretrain", {"prototypes": 5}),
    ],
)
def test_a_change_of_what_stage_1_depends_on_changes_both_keys(keys_of, tiny_recipe, part: str | None, changes: dict):
    changed = replace(tiny_recipe, **({part: replace(getattr(tiny_recipe, part), **changes)} if part else changes))
    before, after = keys_of(), keys_of(changed)
    assert before["pretrain"] != after["pretrain"] and before["finetune"] != after["finetune"]


@pytest.mark.parametrize("changes", [{"learning_rate": 1e-3}, {"dice": "image"}, {"epochs": 1}, {"image_size_px": 48}])
def test_another_fine_tuning_leaves_stage_1_its_key(keys_of, tiny_recipe: Recipe, changes: dict):
    before = keys_of()
    after = keys_of(replace(tiny_recipe, finetune=replace(tiny_recipe.finetune, **changes)))
    assert before["pretrain"] == after["pretrain"] and before["finetune"] != after["finetune"]


def test_what_only_scores_or_helps_changes_no_key(keys_of, tiny_recipe: Recipe):
    other = replace(
        tiny_recipe,
        detect=replace(tiny_recipe.detect, sizes_px=(64,)),
        calibration=replace(tiny_recipe.calibration, false_alarm_rate=0.2),
        compute=replace(tiny_recipe.compute, workers=1),
    )
    assert keys_of() == keys_of() == keys_of(other)


def test_the_content_of_the_images_counts_and_not_where_they_lie(keys_of, normal_images, tmp_path: Path):
    elsewhere = []
    for image in normal_images:
        path = tmp_path / "elsewhere" / image.key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(image.path.read_bytes())
        elsewhere.append(NormalImage(image.key, path))
    before = keys_of()
    assert keys_of(images=elsewhere) == before
    pixels = np.asarray(Image.open(elsewhere[3].path)).copy()
    pixels[0, 0, 0] ^= 1  # one bit of one image
    Image.fromarray(pixels).save(elsewhere[3].path)
    changed = keys_of(images=elsewhere)
    assert changed["pretrain"] != before["pretrain"] and changed["finetune"] != before["finetune"]
    assert keys_of(images=normal_images[:-1])["pretrain"] != before["pretrain"]


def test_the_weights_themselves_count_and_not_only_their_name(keys_of, tiny_recipe: Recipe, tmp_path: Path):
    recipe = replace(tiny_recipe, model=ModelSettings(str(tmp_path / "w.pth"), "test_vit"))
    keys = []
    for seed in (1, 2, 1):
        encoder, _ = load_encoder(ModelSettings("random", "test_vit"), seed=seed)
        torch.save(encoder.vit.state_dict(), tmp_path / "w.pth")
        keys.append(keys_of(recipe))
    assert keys[0] == keys[2]
    assert keys[0]["pretrain"] != keys[1]["pretrain"] and keys[0]["finetune"] != keys[1]["finetune"]


@pytest.mark.parametrize("compute", [Compute("cpu", "bf16", ""), Compute("cpu", "fp32", "", devices=2)])
def test_precision_and_number_of_devices_count(keys_of, compute: Compute):
    before, after = keys_of(), keys_of(compute=compute)
    assert before["pretrain"] != after["pretrain"] and before["finetune"] != after["finetune"]


def test_whether_there_was_a_stage_1_counts_for_stage_2(keys_of, tiny_recipe: Recipe):
    without = keys_of(replace(tiny_recipe, pretrain=replace(tiny_recipe.pretrain, enabled=False)))
    assert without.keys() == {"finetune"} and without["finetune"] != keys_of()["finetune"]


# ---- results that are not whole


@pytest.mark.parametrize("damage", ["none", "tensors", "facts torn", "no facts", "facts of another key"])
def test_a_result_is_shared_only_when_it_is_whole(normal_images, tiny_recipe, new_run, cpu, stages_run, damage: str):
    first, second = new_run("first"), new_run("second")
    keys = fit_scorer(normal_images, tiny_recipe, first, cpu, stages="pretrain").stage_keys
    shared = first.shared_stage("pretrain", keys["pretrain"])
    facts = shared.with_suffix(".json")
    text = facts.read_text(encoding="utf-8")
    facts.unlink()  # both may be other names of the first run's files
    if damage == "tensors":
        content = shared.read_bytes()
        shared.unlink()
        shared.write_bytes(content[:-4] + b"abcd")
    if damage != "no facts":
        torn = text[:-10] if damage == "facts torn" else text
        facts.write_text(torn.replace(keys["pretrain"], "0" * 64) if "another" in damage else torn, encoding="utf-8")
    fit_scorer(normal_images, tiny_recipe, second, cpu, stages="pretrain")
    assert stages_run == (["pretrain"] if damage == "none" else ["pretrain"] * 2)
    assert shared.read_bytes() == second.stage_output("pretrain").read_bytes()  # and it is whole again
    fit_scorer(normal_images, tiny_recipe, new_run("third"), cpu, stages="pretrain")
    assert len(stages_run) == (1 if damage == "none" else 2)
