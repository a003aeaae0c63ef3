"""F1 at a threshold that was fixed before any test image was seen, from counts of decisions, exact.

MVTec AD 2 (Heckler-Kram et al., "The MVTec AD 2 Dataset", 2025) calls it SegF1 for pixels and ClassF1 for images.
Unlike F1-max it says what a user gets, who has no labelled images to choose a threshold with.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics.score_bins import as_finite_float32, as_flags

F1_AT_THRESHOLD = "f1_at_threshold"


@dataclass(frozen=True)
class Decisions:
    """What one threshold says of one image's pixels.

    Attributes:
        hits: anomalous and above the threshold.
        false_alarms: normal and above it.
        misses: anomalous and not above it.
    """

    hits: int
    false_alarms: int
    misses: int


def decisions_at(scores: ArrayLike, labels: ArrayLike, threshold: float) -> Decisions:
    """Count decisions; a score at the threshold is not above it.

    Args:
        scores: any shape, finite; rounded to float32, as maps are.
        labels: the same shape, bool (or 0 and 1); True = anomalous.
        threshold: of the scores.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    values = as_finite_float32(scores)
    flags = as_flags(labels, values.shape)
    above = values > threshold
    hits = int(np.count_nonzero(above & flags))
    return Decisions(hits, int(np.count_nonzero(above)) - hits, int(np.count_nonzero(flags)) - hits)


def f1_of_decisions(decisions: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 = 2 hits / (2 hits + false alarms + misses); NaN where nothing is anomalous.

    Args:
        decisions: (..., 3): hits, false alarms and misses.

    Returns:
        (...), in [0, 1].
    """
    hits, false_alarms, misses = np.moveaxis(decisions, -1, 0)
    total = 2 * hits + false_alarms + misses
    return np.where(hits + misses > 0, 2 * hits / np.maximum(total, 1), np.nan)


def as_row(decisions: Decisions) -> tuple[int, int, int]:
    """In the order of :func:`f1_of_decisions`."""
    return decisions.hits, decisions.false_alarms, decisions.misses
