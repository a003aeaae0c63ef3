"""flawmap as a method of the board: the recipe it is, shortened only where the budget asks for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.data.sample import NormalImage
from flawmap.detect.detector import AnomalyDetector
from flawmap.metrics.rates import threshold_for_false_alarm_rate
from flawmap_bench.baselines import flawmap_recipe
from flawmap_bench.baselines.flawmap_recipe import (
    Costs,
    FlawmapRecipe,
    recipe_steps,
    steps_within,
    with_steps,
)
from flawmap_bench.method import CalibratedMethod, Method, MethodSettings, PlannedMethod
from images import striped, write_good
from tiny_detector import tiny_recipe, write_tiny_recipe


def test_steps_of_a_recipe_are_its_own_or_those_of_its_epochs():
    recipe = tiny_recipe()
    assert recipe_steps(recipe, 100) == (3, 4)
    assert recipe_steps(replace(recipe, pretrain=replace(recipe.pretrain, enabled=False)), 100) == (0, 4)
    in_epochs = replace(recipe, finetune=replace(recipe.finetune, steps=None, epochs=5))
    assert recipe_steps(in_epochs, 100) == (3, 5 * (100 // recipe.finetune.batch_size))


TOKENS = ("data.tiles=none", "pretrain.enabled=false", "memory.blocks=[1, 2]", "detect.image_score=mean_logit")


@pytest.mark.parametrize(("scoring", "steps"), [("memory", 0), ("residual", 9), ("fused", 9)])
def test_of_a_scorer_on_tokens_it_is_the_head_s_steps(scoring: str, steps: int):
    recipe = tiny_recipe(*TOKENS, f"method={scoring}", "residual.steps=9", "memory.tokens=9000")
    assert recipe_steps(recipe, 100) == (0, steps)
    changed = with_steps(recipe, 0, 2)
    assert changed.residual.steps == (recipe.residual.steps if scoring == "memory" else 2)
    assert replace(changed, residual=recipe.residual) == recipe


@pytest.mark.parametrize(
    ("seconds", "costs", "wanted", "expected"),
    [
        (1000.0, (10.0, 1.0, 2.0), (100, 400), (100, 400)),  # 910 s: all of it
        (460.0, (10.0, 1.0, 2.0), (100, 400), (50, 200)),  # both shortened alike
        (460.0, (10.0, 0.0, 2.0), (0, 450), (0, 225)),  # a stage that is off stays off
        (5.0, (10.0, 1.0, 2.0), (100, 400), (1, 1)),  # one step even where nothing is left
        (60.0, (0.0, 0.0, 0.0), (3, 4), (3, 4)),  # too fast to be timed
    ],
)
def test_steps_are_shortened_to_what_fits(
    seconds: float, costs: tuple[float, float, float], wanted: tuple[int, int], expected: tuple[int, int]
):
    assert steps_within(seconds, Costs(*costs), wanted) == expected


def test_only_steps_change():
    recipe = tiny_recipe()
    changed = with_steps(recipe, 2, 1)
    assert (changed.pretrain.steps, changed.finetune.steps) == (2, 1)
    assert replace(changed, pretrain=recipe.pretrain, finetune=recipe.finetune) == recipe


def test_a_recipe_file_is_a_method(tmp_path: Path):
    path = write_tiny_recipe(tmp_path / "mine.yaml")
    images = load_images(write_good(tmp_path / "good"))
    method = FlawmapRecipe(MethodSettings(3, 224, None, "cpu", 1, ("finetune.batch_size=8",)), str(path))
    assert isinstance(method, Method) and isinstance(method, PlannedMethod)
    method.plan(images.images)
    method.fit(images.images)
    assert method.note == "trained at 32 px, tested at 32, 64 px; steps 1 + 1 of the recipe's 3 + 4"
    detector = method.detector
    assert detector.recipe.seed == 3 and detector.recipe.finetune.batch_size == 8
    assert detector.calibration_ is None  # no image is held out
    image = striped(5)
    scored, analysis = method.score(image), detector.analyse(image)
    assert scored.image_score == analysis.scores[detector.recipe.detect.image_score]
    assert scored.anomaly_map is not None
    np.testing.assert_array_equal(scored.anomaly_map, analysis.anomaly_map)
    assert method.num_parameters() == sum(p.numel() for p in detector.scorer_.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scoring", "note"),
    [("memory", ""), ("fused", "; steps 0 + 2 of the recipe's 0 + 9")],
)
def test_a_recipe_on_tokens_is_shortened_where_it_trains(tmp_path: Path, scoring: str, note: str):
    path = tmp_path / "mine.yaml"
    write_tiny_recipe(path, *TOKENS, f"method={scoring}", "residual.steps=9", "memory.tokens=50")
    images = load_images(write_good(tmp_path / "good"))
    method = FlawmapRecipe(MethodSettings(0, 224, None, "cpu", 2, ()), str(path))
    method.plan(images.images)
    method.fit(images.images)
    of_memory = "trained at 32 px, tested at 32 px; a memory of 50 tokens of each of 2 blocks"
    assert method.note == of_memory + note
    scorer = method.detector.scorer_
    parameters = sum(p.numel() for p in scorer.parameters())
    assert method.num_parameters() >= parameters + 50 * 2 * scorer.encoder.embed_dim


def on_tokens(tmp_path: Path, scoring: str, budget_seconds: float) -> tuple[FlawmapRecipe, Sequence[NormalImage]]:
    path = tmp_path / "mine.yaml"
    write_tiny_recipe(path, *TOKENS, f"method={scoring}", "residual.steps=9", "memory.tokens=50")
    return FlawmapRecipe(MethodSettings(0, 224, budget_seconds, "cpu"), str(path)), load_images(
        write_good(tmp_path / "good")
    ).images


def test_a_memory_alone_needs_no_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    method, images = on_tokens(tmp_path, "memory", 60.0)
    monkeypatch.setattr(method, "costs", None)
    method.plan(images)
    method.fit(images)
    assert method.score(striped(5)).anomaly_map is not None


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "steps"), [(3600.0, "0 + 9"), (0.001, "0 + 1 of the recipe's 0 + 9")])
def test_a_head_on_tokens_makes_the_steps_that_its_budget_holds(tmp_path: Path, budget: float, steps: str):
    method, images = on_tokens(tmp_path, "fused", budget)
    method.plan(images)
    method.fit(images)
    assert method.note.endswith(f"; steps {steps}")


@pytest.mark.slow
def test_a_plan_changes_steps_alone(tmp_path: Path):
    """A head that was planned to one step is that of a recipe with one step."""
    method, images = on_tokens(tmp_path, "fused", 0.001)
    method.plan(images)
    method.fit(images)
    expected = AnomalyDetector(with_steps(method.recipe, 0, 1)).fit(tuple(images), device="cpu").scorer_
    assert method.detector.scorer_ is not None and expected is not None
    for name, tensor in method.detector.scorer_.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=0, atol=0)


@pytest.mark.slow
def test_a_head_costs_its_steps_on_the_filled_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    method, images = on_tokens(tmp_path, "fused", 60.0)
    _, detector = method.timed_fit(images, (0, 1))
    monkeypatch.setattr(method, "timed_fit", lambda *_: (20.0, detector))
    ticks = iter([0.0, 50.0, 100.0, 102.0, 200.0, 204.0])  # the first step is not counted
    monkeypatch.setattr(flawmap_recipe.time, "monotonic", lambda: next(ticks))
    assert method.costs(images) == Costs(20.0, 0.0, 3.0)


def test_costs_are_those_of_images_and_of_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = write_tiny_recipe(tmp_path / "mine.yaml")
    method = FlawmapRecipe(MethodSettings(0, 224, 300.0, "cpu"), str(path))

    def timed(images: Sequence[NormalImage], steps: tuple[int, int]) -> tuple[float, None]:
        return 5.0 + 0.1 * len(images) + 2.0 * steps[0] + 3.0 * steps[1], None

    monkeypatch.setattr(method, "timed_fit", timed)
    images = load_images(write_good(tmp_path / "good", 30)).images
    for many in (images * 10, images[:10]):
        costs = method.costs(many)
        assert (costs.fixed, costs.first, costs.second) == pytest.approx((5.0 + 0.1 * len(many), 2.0, 3.0))


@pytest.mark.slow
def test_with_a_threshold_every_good_image_has_a_score_and_its_group(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    write_tiny_recipe(path, *TOKENS, "method=memory", "memory.tokens=50", "calibration.false_alarm_rate=0.2")
    images = load_images(write_good(tmp_path / "good")).images
    images = [replace(image, group=f"part {number // 2}") for number, image in enumerate(images)]
    method = FlawmapRecipe(MethodSettings(0, 224, None, "cpu", with_threshold=True), str(path))
    assert isinstance(method, CalibratedMethod)
    method.fit(images)
    assert [group for _, group in method.good_scores] == [image.group for image in images]
    calibration = method.detector.calibration_
    assert calibration is not None and calibration.n_groups == 12
    assert method.map_threshold == calibration.map_threshold
    scores, groups = zip(*method.good_scores, strict=True)
    assert threshold_for_false_alarm_rate(np.array(scores), 0.2, groups).value == calibration.threshold
    method.fit(images[:5])  # too few: the board goes on without a threshold
    assert (
        method.good_scores == () and method.map_threshold is None and method.note.endswith("; no threshold from folds")
    )
