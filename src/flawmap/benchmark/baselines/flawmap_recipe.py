"""flawmap itself as a method of the board: a recipe, shortened where the budget asks for it."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from flawmap.benchmark.method import MethodSettings, Scored
from flawmap.data.sample import NormalImage
from flawmap.detect.detector import AnomalyDetector
from flawmap.recipe import Recipe
from flawmap.recipe_files import load_recipe
from flawmap.training.schedules import steps_of_stage

PROBE_STEPS = (1, 4)  # the difference is what three steps cost
PROBE_IMAGES = 24  # enough for a batch; a probe should not wait for the whole data set to be decoded
SAFETY = 0.95  # of the budget: the first steps, which the probe times, are not the slowest


class FlawmapRecipe:
    """A recipe by name or file, through :class:`flawmap.detect.detector.AnomalyDetector`.

    No image is held out for a threshold: the board compares rankings, and the other methods train on all of them.

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
        """Both stages, with as many of the recipe's steps as the budget holds."""
        started = time.monotonic()
        wanted = recipe_steps(self._recipe, len(images))
        steps = wanted
        if self._settings.max_steps is not None:
            steps = (min(wanted[0], self._settings.max_steps), min(wanted[1], self._settings.max_steps))
        elif self._settings.budget_seconds is not None:
            costs = self._costs(images)
            left = SAFETY * (self._settings.budget_seconds - (time.monotonic() - started))
            steps = steps_within(left, costs, wanted)
        recipe = with_steps(self._recipe, *steps)
        self._detector = AnomalyDetector(recipe).fit(tuple(images), device=self._settings.device)
        size_px = recipe.finetune.image_size_px or recipe.data.image_size_px
        shortened = "" if steps == wanted else f" of the recipe's {wanted[0]} + {wanted[1]}"
        self.note = (
            f"trained at {size_px} px, tested at {', '.join(map(str, self._detector.sizes_px))} px; "
            f"steps {steps[0]} + {steps[1]}{shortened}"
        )

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> Scored:
        """See :class:`flawmap.benchmark.method.Method`."""
        analysis = self._detector.analyse(image)
        return Scored(analysis.scores[self._recipe.detect.image_score], analysis.anomaly_map)

    def num_parameters(self) -> int:
        """Of the encoder and its head."""
        scorer = self._detector.scorer_
        return sum(parameter.numel() for parameter in scorer.parameters()) if scorer is not None else 0

    def _costs(self, images: Sequence[NormalImage]) -> tuple[float, float, float]:
        """Seconds that do not depend on the steps, and those of a step of stage 1 and of stage 2."""
        few, more = tuple(images[:PROBE_IMAGES]), tuple(images[: 3 * PROBE_IMAGES])
        low, high = PROBE_STEPS
        both = self._recipe.pretrain.enabled
        shortest = (low if both else 0, low)
        base = self._timed(few, shortest)
        second = max(0.0, self._timed(few, (shortest[0], high)) - base) / (high - low)
        first = max(0.0, self._timed(few, (high, low)) - base) / (high - low) if both else 0.0
        per_image = 0.0  # reading it, and the guide's attention
        if len(more) > len(few):
            per_image = max(0.0, self._timed(more, shortest) - base) / (len(more) - len(few))
        fixed = max(0.0, base - low * (first + second)) + per_image * (len(images) - len(few))
        return fixed, first, second

    def _timed(self, images: Sequence[NormalImage], steps: tuple[int, int]) -> float:
        started = time.monotonic()
        AnomalyDetector(with_steps(self._recipe, *steps)).fit(images, device=self._settings.device)
        return time.monotonic() - started


def recipe_steps(recipe: Recipe, num_images: int) -> tuple[int, int]:
    """The steps of both stages on that many images; 0 for a stage 1 that is switched off."""
    first, second = recipe.pretrain, recipe.finetune
    of_first, of_second = (
        steps_of_stage(stage.epochs, stage.steps, num_images, min(stage.batch_size, num_images))[0]
        for stage in (first, second)
    )
    return (of_first if first.enabled else 0), of_second


def steps_within(seconds: float, costs: tuple[float, float, float], wanted: tuple[int, int]) -> tuple[int, int]:
    """As many of the wanted steps as fit, both stages shortened alike; at least one of each that is wanted.

    Args:
        seconds: that are left.
        costs: fixed seconds, seconds per step of stage 1, seconds per step of stage 2.
        wanted: steps of both stages.
    """
    fixed, first, second = costs
    of_steps = first * wanted[0] + second * wanted[1]
    share = 1.0 if of_steps <= 0 else min(1.0, max(0.0, seconds - fixed) / of_steps)
    of_first, of_second = (max(1, int(share * count)) if count else 0 for count in wanted)
    return of_first, of_second


def with_steps(recipe: Recipe, pretrain: int, finetune: int) -> Recipe:
    """The recipe with these numbers of steps; warm-ups shrink with them, so that the full rate is reached."""
    changed = replace(recipe, finetune=replace(recipe.finetune, steps=finetune, epochs=None))
    if recipe.pretrain.enabled:
        changed = replace(changed, pretrain=replace(recipe.pretrain, steps=pretrain, epochs=None))
    return changed
