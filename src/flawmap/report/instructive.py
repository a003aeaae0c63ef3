"""Which test images to show: misses, false alarms and close calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flawmap.runs.evaluation import ScoredImage


@dataclass(frozen=True)
class Choice:
    """A test image and why it is shown."""

    image: ScoredImage
    reason: Literal["missed", "false alarm", "close call"]


def most_instructive(images: Sequence[ScoredImage], threshold: float, count: int = 20) -> tuple[Choice, ...]:
    """Choose up to ``count`` images: the worst misses, the worst false alarms, and the closest calls.

    Each of the three gets a third of the places; places that one leaves free go to the others, misses first. Misses
    and false alarms are ordered by falling distance from the threshold, close calls (decided correctly) by rising
    distance. Equal scores are ordered by key.

    Args:
        images: all test images.
        threshold: the score above which ``is_flagged`` is true.
        count: how many to choose at most.
    """
    missed = [image for image in images if image.is_anomalous and not image.is_flagged]
    alarms = [image for image in images if image.is_flagged and not image.is_anomalous]
    right = [image for image in images if image.is_flagged == image.is_anomalous]
    by_outcome = [
        [Choice(image, "missed") for image in sorted(missed, key=lambda image: (image.score, image.key))],
        [Choice(image, "false alarm") for image in sorted(alarms, key=lambda image: (-image.score, image.key))],
        [
            Choice(image, "close call")
            for image in sorted(right, key=lambda image: (abs(image.score - threshold), image.key))
        ],
    ]
    places = [min(len(choices), count // 3) for choices in by_outcome]
    for i, choices in enumerate(by_outcome):
        places[i] += min(len(choices) - places[i], count - sum(places))
    return tuple(choice for choices, n in zip(by_outcome, places, strict=True) for choice in choices[:n])
