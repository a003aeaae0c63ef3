"""What every compared method is to the benchmark: it learns from good images and scores new ones, within a budget."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from flawmap.data.sample import NormalImage
from flawmap.engine.compute import Compute, DeviceName, choose_compute


@dataclass(frozen=True)
class MethodSettings:
    """What all methods of a board have in common.

    Attributes:
        seed: of everything random.
        image_size_px: images are resized to this square, rounded where a network needs a multiple.
        budget_seconds: for ``fit``, from its first line on; None for no limit.
        device: to compute on.
        max_steps: an end of training before the budget's, for tests; None for none.
        overrides: ``--set`` changes, for methods that are flawmap recipes.
        with_threshold: whether flawmap recipes set a threshold, as ``flawmap train`` does.
    """

    seed: int
    image_size_px: int
    budget_seconds: float | None
    device: DeviceName = "auto"
    max_steps: int | None = None
    overrides: tuple[str, ...] = ()
    with_threshold: bool = False

    @property
    def compute(self) -> Compute:
        """The device, and the precision of training on it."""
        return choose_compute(self.device)


@dataclass(frozen=True)
class ScoredImage:
    """What a method says about one image.

    Attributes:
        image_score: higher = more anomalous; finite.
        anomaly_map: at the image's own resolution; None where the method gives none.
    """

    image_score: float
    anomaly_map: Float[np.ndarray, "h w"] | None


@runtime_checkable
class Method(Protocol):
    """One compared method.

    Attributes:
        note: how it departs from its publication here (substituted weights, reduced width, steps done), for the board.
    """

    note: str

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Learn from good images; does not exceed the budget by much."""
        ...

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """Score one image, independently of all others."""
        ...

    def num_parameters(self) -> int:
        """Numbers that a trained model carries: weights, and what it keeps of the training images."""
        ...


@runtime_checkable
class PlannedMethod(Protocol):
    """A method whose ``fit`` knows no budget: how much of it fits is measured beforehand."""

    def plan(self, images: Sequence[NormalImage]) -> None:
        """Measure, and choose settings with which ``fit`` stays within the budget; this time does not count."""
        ...


@runtime_checkable
class CalibratedMethod(Protocol):
    """A method with scores of good images that the fits behind them have not seen, for thresholds.

    Attributes:
        good_scores: after ``fit``, the image score and the group of each such image; empty without any.
        map_threshold: of map values, from the same images; regions lie above it. None without one.
    """

    good_scores: Sequence[tuple[float, str | None]]
    map_threshold: float | None


class Budget:
    """How much of a training's time or steps is spent; learning rates follow it, so that each ends its schedule.

    Args:
        seconds: from now on; None for no limit.
        max_steps: None for no limit.

    Raises:
        ValueError: neither is given: such a training would not end.
    """

    def __init__(self, seconds: float | None, max_steps: int | None) -> None:
        if seconds is None and max_steps is None:
            raise ValueError("a training needs an end: seconds or steps")
        self._seconds, self._max_steps = seconds, max_steps
        self._started = time.monotonic()

    def share(self, step: int) -> float:
        """Spent share in [0, 1] before step ``step`` (0 = the first): the larger of time's and steps'."""
        spent = [0.0]
        if self._seconds is not None:
            spent.append((time.monotonic() - self._started) / self._seconds)
        if self._max_steps is not None:
            spent.append(step / self._max_steps)
        return min(1.0, max(spent))
