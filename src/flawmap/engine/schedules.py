"""Rates as functions of the step alone, so that resuming needs no state."""

import math
from dataclasses import dataclass

from flawmap.recipe.settings import FinetuneSettings, PretrainSettings


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up from ``start`` to ``peak``, then a cosine down to ``end`` at the last step.

    Attributes:
        start: value at step 0.
        peak: value at step ``warmup_steps``.
        end: value at step ``total_steps - 1``.
        warmup_steps: length of the warm-up, in optimizer steps; shortened to a third of training if longer.
        total_steps: length of training, in optimizer steps.
    """

    start: float
    peak: float
    end: float
    warmup_steps: int
    total_steps: int

    @classmethod
    def of_stage(
        cls, settings: PretrainSettings | FinetuneSettings, peak: float, steps_per_epoch: int, total_steps: int
    ) -> "WarmupCosine":
        """The learning rate of a stage whose settings give the warm-up in epochs; it never exceeds ``peak``."""
        start, end = min(settings.warmup_learning_rate, peak), min(settings.final_learning_rate, peak)
        return cls(start, peak, end, round(settings.warmup_epochs * steps_per_epoch), total_steps)

    @property
    def warmup(self) -> int:
        """Steps of the warm-up, after shortening."""
        return min(self.warmup_steps, max(1, self.total_steps // 3))

    def at(self, step: int) -> float:
        """Value of the update number ``step`` (0 = first)."""
        warmup = self.warmup
        if step < warmup:
            return self.start + (self.peak - self.start) * step / warmup
        return cosine(self.peak, self.end, step - warmup, self.total_steps - warmup)


def cosine(first: float, last: float, step: int, total_steps: int) -> float:
    """From ``first`` at step 0 to ``last`` at step ``total_steps - 1`` on half a cosine."""
    share = min(step / max(1, total_steps - 1), 1.0)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def steps_of_stage(epochs: int | None, steps: int | None, num_images: int, batch_size: int) -> tuple[int, int]:
    """Optimizer steps of a stage and steps per epoch; the last incomplete batch of an epoch is dropped."""
    per_epoch = max(1, num_images // batch_size)
    return (steps if steps is not None else (epochs or 0) * per_epoch), per_epoch
