"""Which test images to show: hits, misses, false alarms and close calls, in equal parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flawmap.runs.evaluation import ScoredImage

Reason = Literal["found", "missed", "false alarm", "close call"]


@dataclass(frozen=True)
class Choice:
    """A test image and why it is shown."""

    image: ScoredImage
    reason: Reason


def most_instructive(images: Sequence[ScoredImage], threshold: float, count: int = 20) -> tuple[Choice, ...]:
    """Choose up to ``count`` images: the clearest hits, the worst misses, the worst false alarms, the closest calls.

    Each of the four gets a quarter of the places; places that one leaves free go to the others, misses and false alarms
    first. All but close calls are ordered by falling distance from the threshold. A close call is decided correctly and
    is not shown as a hit; they are ordered by rising distance. Equal scores are ordered by key.

    Args:
        images: all test images.
        threshold: the score above which ``is_flagged`` is true.
        count: how many to choose at most.
    """

    def from_far(image: ScoredImage) -> tuple[float, str]:
        return -abs(image.score - threshold), image.key

    missed = sorted((image for image in images if image.is_anomalous and not image.is_flagged), key=from_far)
    alarms = sorted((image for image in images if image.is_flagged and not image.is_anomalous), key=from_far)
    hits = sorted((image for image in images if image.is_anomalous and image.is_flagged), key=from_far)
    passed = [image for image in images if not image.is_anomalous and not image.is_flagged]
    n_hits = min(len(hits), max(count // 4, count - len(missed) - len(alarms) - len(passed)))
    close = sorted([*hits[n_hits:], *passed], key=lambda image: (abs(image.score - threshold), image.key))
    groups: dict[Reason, list[ScoredImage]] = {
        "missed": missed,
        "false alarm": alarms,
        "found": hits[:n_hits],
        "close call": close,
    }
    places = {reason: min(len(group), count // 4) for reason, group in groups.items()}
    for reason, group in groups.items():
        places[reason] += min(len(group) - places[reason], count - sum(places.values()))
    return tuple(Choice(image, reason) for reason, group in groups.items() for image in group[: places[reason]])
