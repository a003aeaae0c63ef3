"""What the operator of a line does in a week: reviews the highest alarms of each day, and confirms some good parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flawmap.reproducibility import numpy_generator
from flawmap_bench.line_quarter.parts import Part

REVIEWS_A_DAY, CONFIRMED_A_DAY = 5, 2


@dataclass(frozen=True)
class Week:
    """A week in numbers of parts.

    Attributes:
        false_alarms, missed: good parts above the threshold, defective ones not above it; reviewed or not.
        not_reviewed: alarms beyond the highest of each day.
        reviews, confirmations: what the operator looked at; an alarm that is confirmed as well counts once.
        threshold: of the week.
    """

    week: int
    good: int
    defective: int
    false_alarms: int
    missed: int
    not_reviewed: int
    reviews: int
    confirmations: int
    threshold: float

    @property
    def actions(self) -> int:
        """Parts that the operator looked at."""
        return self.reviews + self.confirmations


def reviewed(scores: Sequence[float], threshold: float) -> list[int]:
    """The highest alarms of a day, highest first."""
    alarms = [number for number, score in enumerate(scores) if score > threshold]
    return sorted(alarms, key=lambda number: -scores[number])[:REVIEWS_A_DAY]


def looked_at(is_defective: Sequence[bool], seed: int, week: int, day: int) -> list[int]:
    """Parts of a day in a random order, until enough good ones are found; the scores play no part."""
    found, order = [], numpy_generator(seed, "sample", week, day).permutation(len(is_defective))
    for number in order.tolist():
        found.append(number)
        if sum(not is_defective[one] for one in found) == CONFIRMED_A_DAY:
            break
    return found


def work_of_week(
    parts: Sequence[Part], scores: Sequence[float], threshold: float, seed: int, confirms: bool
) -> tuple[Week, list[int], list[int]]:
    """The week in numbers; the false alarms that were reviewed; the random sample of good parts.

    Args:
        parts: of one week, in order.
        scores: of each.
        threshold: of the week.
        seed: of the sample.
        confirms: whether good parts are confirmed at all.

    Returns:
        the week, and numbers of parts; a part of the sample is not among the false alarms.
    """
    is_defective, is_alarm = (
        np.array([part.is_defective for part in parts], bool),
        np.array(scores, np.float64) > threshold,
    )
    false_alarms: list[int] = []
    sample: list[int] = []
    reviews = confirmations = 0
    for day in sorted({part.day for part in parts}):
        of_day = [number for number, part in enumerate(parts) if part.day == day]
        looked = {of_day[place] for place in reviewed([scores[number] for number in of_day], threshold)}
        reviews += len(looked)
        chosen: list[int] = []
        if confirms:
            week = parts[of_day[0]].week
            places = looked_at([parts[number].is_defective for number in of_day], seed, week, day)
            chosen = [of_day[place] for place in places]
            confirmations += len(set(chosen) - looked)
        sample += [number for number in chosen if not parts[number].is_defective]
        false_alarms += sorted(number for number in looked - set(chosen) if not parts[number].is_defective)
    week = Week(
        week=parts[0].week,
        good=int((~is_defective).sum()),
        defective=int(is_defective.sum()),
        false_alarms=int((is_alarm & ~is_defective).sum()),
        missed=int((~is_alarm & is_defective).sum()),
        not_reviewed=int(is_alarm.sum()) - reviews,
        reviews=reviews,
        confirmations=confirmations,
        threshold=threshold,
    )
    return week, false_alarms, sample
