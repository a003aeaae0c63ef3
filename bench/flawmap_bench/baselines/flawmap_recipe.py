"""flawmap itself as a method of the board: a recipe, with fewer steps where the budget asks for it."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8

from flawmap.data.checks import MIN_IMAGES
from flawmap.data.sample import NormalImage
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.schedules import steps_of_stage
from flawmap.memory.head_training import TOKENS_PER_STEP, head_logits, update
from flawmap.memory.scorer import ResidualScorer
from flawmap.memory.token_pool import TokenPool
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap_bench.method import MethodSettings, ScoredImage

PROBE_STEPS = (1, 4)  # the difference is what three steps cost
PROBE_IMAGES = 24  # enough for a batch; a probe should not wait for the whole data set to be decoded
HEAD_PROBES = 3  # the first pays for what is allocated only once, and does not count
SAFETY = 0.95  # of the budget: the first steps, which are timed, are not the slowest


@dataclass(frozen=True)
class Costs:
    """Seconds of a fit.

    Attributes:
        fixed: whatever the number of steps.
        first: of a step of stage 1.
        second: of a step of what follows it.
    """

    fixed: float
    first: float
    second: float


class FlawmapRecipe:
    """A recipe by name or file, through :class:`flawmap.detect.detector.AnomalyDetector`.

    Without ``settings.with_threshold`` no threshold is set: such a board compares rankings, and the other methods train
    on all images. With it the recipe trains as ``flawmap train`` does, but that fewer images than a threshold needs are
    no error.

    ``fit`` knows no clock. Before it, :meth:`plan` measures what fixed work and a step cost, and lowers the recipe's
    steps to what the budget holds; its own time does not count. A head on a memory is planned from one fit of all
    images with a single step, and a few timed steps on the memory that this fit filled. The paper's stages are planned
    from short fits of a few images.

    Args:
        settings: of the board; its ``overrides`` change the recipe, its image size does not.
        name: a preset or a YAML file.

    Raises:
        UserError: the recipe cannot be read.
    """

    def __init__(self, settings: MethodSettings, name: str) -> None:
        self._settings = settings
        recipe = load_recipe(name, settings.overrides)
        self.recipe = replace(recipe, seed=settings.seed)
        if not settings.with_threshold:
            self.recipe = without_threshold(self.recipe)
        self.detector = AnomalyDetector(self.recipe)
        self.good_scores: Sequence[tuple[float, str | None]] = ()
        self.map_threshold: float | None = None
        self._steps: tuple[int, int] | None = None  # what was planned
        self.note = ""

    def plan(self, images: Sequence[NormalImage]) -> None:
        """Choose how many of the recipe's steps fit into the budget."""
        settings = self._settings
        wanted = recipe_steps(self.recipe, len(images))
        if settings.max_steps is not None:
            self._steps = min(wanted[0], settings.max_steps), min(wanted[1], settings.max_steps)
        elif settings.budget_seconds is None or not any(wanted):
            self._steps = wanted
        else:
            costs = self.costs(images)
            self._steps = steps_within(SAFETY * settings.budget_seconds, costs, wanted)

    def fit(self, images: Sequence[NormalImage]) -> None:
        """All stages, with the planned steps; with all of the recipe's where nothing was planned."""
        wanted = recipe_steps(self.recipe, len(images))
        steps = self._steps or wanted
        if len(images) < MIN_IMAGES:
            self.recipe = without_threshold(self.recipe)
        self.detector = AnomalyDetector(with_steps(self.recipe, *steps)).fit(
            tuple(images), device=self._settings.device
        )
        self.good_scores, calibration = self.detector.unseen_scores_, self.detector.calibration_
        self.map_threshold = calibration.map_threshold if calibration is not None else None
        self.note = self._described(steps, wanted)

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        analysis = self.detector.analyse(image)
        return ScoredImage(analysis.scores[self.recipe.detect.image_score], analysis.anomaly_map)

    def num_parameters(self) -> int:
        """Of the encoder and its head, and what a memory holds."""
        scorer = self.detector.scorer_
        if scorer is None:
            return 0
        kept = sum(buffer.numel() for buffer in scorer.buffers() if buffer.is_floating_point())
        return kept + sum(parameter.numel() for parameter in scorer.parameters())

    def costs(self, images: Sequence[NormalImage]) -> Costs:
        """What a fit on these images costs, measured."""
        if self.recipe.method == "paper" or self.recipe.pretrain.enabled:
            return self._costs_of_short_fits(images)
        fixed, detector = self.timed_fit(images, (0, 1))
        assert isinstance(detector.scorer_, ResidualScorer)
        return Costs(fixed, 0.0, self._seconds_of_head_step(detector.scorer_))

    def timed_fit(self, images: Sequence[NormalImage], steps: tuple[int, int]) -> tuple[float, AnomalyDetector]:
        """Seconds of a fit with so many steps of stage 1 and of what follows it, and the detector."""
        started = time.monotonic()
        detector = AnomalyDetector(with_steps(self.recipe, *steps)).fit(tuple(images), device=self._settings.device)
        return time.monotonic() - started, detector

    def _costs_of_short_fits(self, images: Sequence[NormalImage]) -> Costs:
        few, more = images[:PROBE_IMAGES], images[: 2 * PROBE_IMAGES]
        low, high = PROBE_STEPS
        trains_first, trains_last = (steps > 0 for steps in recipe_steps(self.recipe, len(images)))
        shortest = (low if trains_first else 0, low if trains_last else 0)
        base = self.timed_fit(few, shortest)[0]
        first = second = per_image = 0.0
        if trains_last:
            second = max(0.0, self.timed_fit(few, (shortest[0], high))[0] - base) / (high - low)
        if trains_first:
            first = max(0.0, self.timed_fit(few, (high, shortest[1]))[0] - base) / (high - low)
        if len(more) > len(few):  # reading, and attention maps where defects are simulated
            per_image = max(0.0, self.timed_fit(more, shortest)[0] - base) / (len(more) - len(few))
        fixed = max(0.0, base - shortest[0] * first - shortest[1] * second) + per_image * (len(images) - len(few))
        return Costs(fixed, first, second)

    def _seconds_of_head_step(self, scorer: ResidualScorer) -> float:
        """Mean seconds of a step of the head on made-up tokens; nothing that is learned changes."""
        settings, memory = self.recipe.residual, scorer.memory
        num_blocks, num_tokens, dim = memory.tokens.shape
        pool = TokenPool(
            torch.randn(TOKENS_PER_STEP, num_blocks, dim).half(),
            torch.randint(num_tokens, (TOKENS_PER_STEP, num_blocks)),
        )
        head = copy.deepcopy(scorer.head).train()
        optimizer = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate)
        seconds = []
        for _ in range(HEAD_PROBES):
            started = time.monotonic()
            loss = head_logits(head, memory, pool).mean()
            update(optimizer, loss, settings.clip_gradient_norm)
            loss.item()  # waits for an accelerator
            seconds.append(time.monotonic() - started)
        return sum(seconds[1:]) / (HEAD_PROBES - 1)

    def _described(self, steps: tuple[int, int], wanted: tuple[int, int]) -> str:
        """Sizes, and how many of the recipe's steps were made."""
        recipe = self.recipe
        tested = ", ".join(map(str, self.detector.sizes_px))
        size_px = recipe.data.image_size_px
        if recipe.method == "paper":
            size_px = recipe.finetune.image_size_px or size_px
        note = f"trained at {size_px} px, tested at {tested} px"
        if recipe.method != "paper":
            note += f"; a memory of {recipe.memory.tokens:,} tokens of each of {len(recipe.memory.blocks)} blocks"
        if self._settings.with_threshold and not self.good_scores:
            note += "; no threshold from folds"
        if not any(wanted):
            return note
        shortened = "" if steps == wanted else f" of the recipe's {wanted[0]} + {wanted[1]}"
        return f"{note}; steps {steps[0]} + {steps[1]}{shortened}"


def without_threshold(recipe: Recipe) -> Recipe:
    """The recipe with all good images to learn from and none to set a threshold by."""
    return replace(recipe, calibration=replace(recipe.calibration, held_out_fraction=0.0, folds=0))


def recipe_steps(recipe: Recipe, num_images: int) -> tuple[int, int]:
    """Steps on that many images: of stage 1, and of what is trained for scoring; 0 for what is not trained at all."""
    stage_1, stage_2, head = recipe.pretrain, recipe.finetune, recipe.residual

    def steps(epochs: int | None, count: int | None, batch_size: int) -> int:
        return steps_of_stage(epochs, count, num_images, min(batch_size, num_images))[0]

    first = steps(stage_1.epochs, stage_1.steps, stage_1.batch_size) if stage_1.enabled else 0
    if recipe.method == "paper":
        return first, steps(stage_2.epochs, stage_2.steps, stage_2.batch_size)
    return first, 0 if recipe.method == "memory" else head.steps


def steps_within(seconds: float, costs: Costs, wanted: tuple[int, int]) -> tuple[int, int]:
    """As many of the wanted steps as fit, both shortened by the same factor; at least one of each that is wanted.

    Args:
        seconds: of the whole fit.
        costs: of fixed work and of steps.
        wanted: steps of stage 1, and of what follows it.
    """
    steps_seconds = costs.first * wanted[0] + costs.second * wanted[1]
    share = 1.0 if steps_seconds <= 0 else min(1.0, max(0.0, seconds - costs.fixed) / steps_seconds)
    first, second = (max(1, int(share * count)) if count else 0 for count in wanted)
    return first, second


def with_steps(recipe: Recipe, first: int, second: int) -> Recipe:
    """The recipe with these numbers of steps of what it trains; warm-ups shrink with them."""
    if recipe.pretrain.enabled:
        recipe = replace(recipe, pretrain=replace(recipe.pretrain, steps=first, epochs=None))
    if recipe.method == "paper":
        return replace(recipe, finetune=replace(recipe.finetune, steps=second, epochs=None))
    return recipe if recipe.method == "memory" else replace(recipe, residual=replace(recipe.residual, steps=second))
