"""Ways to do the same thing take turns, so that a machine that slows down slows all of them; and their ratios."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Way = Callable[[Item], float]  # does something with an item, and returns the seconds that it took


@dataclass(frozen=True)
class Spread:
    """Median and range of repeated measurements; printed as they stand in a table's two columns."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def columns(self, digits: int) -> str:
        """``median | lowest–highest``."""
        return f"{self.median:.{digits}f} | {self.lowest:.{digits}f}–{self.highest:.{digits}f}"


def by_processor(run: Callable[[Item], object]) -> Way[Item]:
    """A way that is measured in this process's processor time, of all its threads."""

    def measured(item: Item) -> float:
        started = time.process_time()
        run(item)
        return time.process_time() - started

    return measured


def in_turns(
    ways: Mapping[str, Way[Item]], items: Sequence[Item], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way in each round; in a round all ways get the same item.

    Args:
        ways: by label.
        items: at least one; the rounds go through them again and again.
        rounds: that are measured, after ``warm_up`` others.
    """
    seconds: dict[str, list[float]] = {label: [] for label in ways}
    for number in range(warm_up + rounds):
        for label, way in ways.items():
            measured = way(items[number % len(items)])
            if number >= warm_up:
                seconds[label].append(measured)
    return seconds


def ratios(seconds: Sequence[float], base: Sequence[float]) -> Spread:
    """Each measurement divided by the base's in the same round."""
    return Spread.of([one / other for one, other in zip(seconds, base, strict=True)])
