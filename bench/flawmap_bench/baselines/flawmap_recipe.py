"""flawmap itself as a method of the board: a recipe, shortened where the budget asks for it."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from flawmap.data.sample import NormalImage
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.schedules import steps_of_stage
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.runs.run_folder import create_run
from flawmap_bench.method import MethodSettings, Scored

PROBE_STEPS = (1, 4)  # the difference is what three steps cost
PROBE_IMAGES = 24  # enough for a batch; a probe should not wait for the whole data set to be decoded
SAFETY = 0.95  # of the budget: the first steps, which are timed, are not the slowest


class FlawmapRecipe:
    """A recipe by name or file, through :class:`flawmap.detect.detector.AnomalyDetector`.

    No image is held out for a threshold: the board compares rankings, and the other methods train on all of them.
    Where the budget does not hold all of the recipe's steps, fewer are made; a memory is always filled whole. Steps of
    a head on tokens are counted once its memory is there; with stage 1, both stages' steps are estimated beforehand.

    Args:
        settings: of the board; its ``overrides`` change the recipe, its image size does not.
        name: a preset or a YAML file.

    Raises:
        UserError: a recipe that cannot be read.
    """

    def __init__(self, settings: MethodSettings, name: str) -> None:
        self._settings = settings
        recipe = load_recipe(name, settings.overrides)
        self._recipe = replace(
            recipe, seed=settings.seed, calibration=replace(recipe.calibration, held_out_fraction=0.0)
        )
        self._detector = AnomalyDetector(self._recipe)
        self.note = ""

    def fit(self, images: Sequence[NormalImage]) -> None:
        """All stages, with as many of the recipe's steps as the budget holds."""
        started = time.monotonic()
        settings = self._settings
        steps = wanted = recipe_steps(self._recipe, len(images))
        until = None
        if settings.max_steps is not None:
            steps = (min(wanted[0], settings.max_steps), min(wanted[1], settings.max_steps))
        elif settings.budget_seconds is not None and self._recipe.method != "paper" and not wanted[0]:
            until = started + SAFETY * settings.budget_seconds
        elif settings.budget_seconds is not None:
            costs = self._costs(images)
            steps = steps_within(SAFETY * (settings.budget_seconds - (time.monotonic() - started)), costs, wanted)
        with tempfile.TemporaryDirectory(prefix="flawmap-") as folder:
            run = create_run(Path(folder) / "run", "fit", self._recipe)
            detector = AnomalyDetector(with_steps(self._recipe, *steps))
            self._detector = detector.fit(tuple(images), run, settings.device, until=until)
            if until is not None and wanted[1]:
                about = run.stage_output("residual").with_suffix(".json").read_text(encoding="utf-8")
                steps = (steps[0], json.loads(about)["steps"])
        self.note = self._described(steps, wanted)

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> Scored:
        """See :class:`flawmap_bench.method.Method`."""
        analysis = self._detector.analyse(image)
        return Scored(analysis.scores[self._recipe.detect.image_score], analysis.anomaly_map)

    def num_parameters(self) -> int:
        """Of the encoder and its head, and what a memory holds."""
        scorer = self._detector.scorer_
        if scorer is None:
            return 0
        kept = sum(buffer.numel() for buffer in scorer.buffers() if buffer.is_floating_point())
        return kept + sum(parameter.numel() for parameter in scorer.parameters())

    def _described(self, steps: tuple[int, int], wanted: tuple[int, int]) -> str:
        """Sizes, and the steps that were made of what the recipe trains."""
        recipe = self._recipe
        tested = ", ".join(map(str, self._detector.sizes_px))
        size_px = recipe.data.image_size_px
        if recipe.method == "paper":
            size_px = recipe.finetune.image_size_px or size_px
        note = f"trained at {size_px} px, tested at {tested} px"
        if recipe.method != "paper":
            note += f"; a memory of {recipe.memory.tokens:,} tokens of each of {len(recipe.memory.blocks)} blocks"
        if not any(wanted):
            return note
        shortened = "" if steps == wanted else f" of the recipe's {wanted[0]} + {wanted[1]}"
        return f"{note}; steps {steps[0]} + {steps[1]}{shortened}"

    def _costs(self, images: Sequence[NormalImage]) -> tuple[float, float, float]:
        """Seconds that do not depend on the steps, and those of a step of stage 1 and of what follows it."""
        few, more = tuple(images[:PROBE_IMAGES]), tuple(images[: 2 * PROBE_IMAGES])
        low, high = PROBE_STEPS
        trains_first, trains_last = (steps > 0 for steps in recipe_steps(self._recipe, len(images)))
        shortest = (low if trains_first else 0, low if trains_last else 0)
        base = self._timed(few, shortest)
        first = second = per_image = 0.0
        if trains_last:
            second = max(0.0, self._timed(few, (shortest[0], high)) - base) / (high - low)
        if trains_first:
            first = max(0.0, self._timed(few, (high, shortest[1])) - base) / (high - low)
        if len(more) > len(few):  # reading, the guide's attention
            per_image = max(0.0, self._timed(more, shortest) - base) / (len(more) - len(few))
        fixed = max(0.0, base - shortest[0] * first - shortest[1] * second) + per_image * (len(images) - len(few))
        return fixed, first, second

    def _timed(self, images: Sequence[NormalImage], steps: tuple[int, int]) -> float:
        started = time.monotonic()
        AnomalyDetector(with_steps(self._recipe, *steps)).fit(images, device=self._settings.device)
        return time.monotonic() - started


def recipe_steps(recipe: Recipe, num_images: int) -> tuple[int, int]:
    """Steps on that many images: of stage 1, and of what is trained for scoring; 0 for what is not trained at all."""
    stage_1, stage_2, head = recipe.pretrain, recipe.finetune, recipe.residual

    def steps(epochs: int | None, count: int | None, batch_size: int) -> int:
        return steps_of_stage(epochs, count, num_images, min(batch_size, num_images))[0]

    of_first = steps(stage_1.epochs, stage_1.steps, stage_1.batch_size) if stage_1.enabled else 0
    if recipe.method == "paper":
        return of_first, steps(stage_2.epochs, stage_2.steps, stage_2.batch_size)
    return of_first, 0 if recipe.method == "memory" else steps(None, head.steps, head.batch_size)


def steps_within(seconds: float, costs: tuple[float, float, float], wanted: tuple[int, int]) -> tuple[int, int]:
    """As many of the wanted steps as fit, both shortened alike; at least one of each that is wanted.

    Args:
        seconds: that are left.
        costs: fixed seconds, seconds per step of stage 1, seconds per step of what follows it.
        wanted: steps of both.
    """
    fixed, first, second = costs
    of_steps = first * wanted[0] + second * wanted[1]
    share = 1.0 if of_steps <= 0 else min(1.0, max(0.0, seconds - fixed) / of_steps)
    of_first, of_second = (max(1, int(share * count)) if count else 0 for count in wanted)
    return of_first, of_second


def with_steps(recipe: Recipe, first: int, second: int) -> Recipe:
    """The recipe with these numbers of steps of what it trains; warm-ups shrink with them."""
    if recipe.pretrain.enabled:
        recipe = replace(recipe, pretrain=replace(recipe.pretrain, steps=first, epochs=None))
    if recipe.method == "paper":
        return replace(recipe, finetune=replace(recipe.finetune, steps=second, epochs=None))
    return recipe if recipe.method == "memory" else replace(recipe, residual=replace(recipe.residual, steps=second))
