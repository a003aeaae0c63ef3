"""F1 and region precision at a threshold that was fixed before any test image was seen, from counts, exact.

MVTec AD 2 (Heckler-Kram et al., "The MVTec AD 2 Dataset", 2025) calls it SegF1 for pixels and ClassF1 for images.
Unlike F1-max it says what a user gets, who has no labelled images to choose a threshold with. Region precision says it
of regions, which people look at one by one: of those that a map shows, how many touch a marked defect.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics.defect_regions import number_regions
from flawmap.metrics.score_bins import as_finite_float32, as_flags

F1_AT_THRESHOLD = "f1_at_threshold"
REGION_PRECISION = "region_precision"


@dataclass(frozen=True)
class Decisions:
    """What one threshold says of one image's pixels.

    Attributes:
        hits: anomalous and above the threshold.
        false_alarms: normal and above it.
        misses: anomalous and not above it.
        n_regions: connected regions (8 neighbours) above the threshold.
        n_on_defects: how many of them have an anomalous pixel.
    """

    hits: int
    false_alarms: int
    misses: int
    n_regions: int
    n_on_defects: int


def decisions_at(
    scores: ArrayLike, labels: ArrayLike, threshold: float, inside: NDArray[np.bool_] | None = None
) -> Decisions:
    """Count decisions; a score at the threshold is not above it.

    Args:
        scores: (h, w), finite; rounded to float32, as maps are.
        labels: the same shape, bool (or 0 and 1); True = anomalous.
        threshold: of the scores.
        inside: (h, w), the pixels that count; None: all.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    values = as_finite_float32(scores)
    flags = as_flags(labels, values.shape)
    above = values > threshold
    if inside is not None:
        above, flags = above & inside, flags & inside
    numbers = number_regions(above)  # (n,), the region of each pixel above the threshold
    on_defects = numbers[flags[above]]  # likewise, of the anomalous ones
    n_above, n_anomalous, hits = numbers.size, int(np.count_nonzero(flags)), on_defects.size
    n_regions = int(numbers.max(initial=-1)) + 1
    return Decisions(hits, n_above - hits, n_anomalous - hits, n_regions, np.unique(on_defects).size)


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


def region_precision(regions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of regions above the threshold that touch a defect; NaN where there is no such region.

    Args:
        regions: (..., 2): all of them, and those that touch a defect.

    Returns:
        (...), in [0, 1].
    """
    n_regions, n_on_defects = np.moveaxis(regions, -1, 0)
    return np.where(n_regions > 0, n_on_defects / np.maximum(n_regions, 1), np.nan)


def as_row(decisions: Decisions) -> tuple[int, int, int, int, int]:
    """In the order of :func:`measures_of_rows`."""
    pixels = decisions.hits, decisions.false_alarms, decisions.misses
    return *pixels, decisions.n_regions, decisions.n_on_defects


def measures_of_rows(rows: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """F1 and region precision, (...), of summed rows (..., 5) of :func:`as_row`; NaN where undefined."""
    return {F1_AT_THRESHOLD: f1_of_decisions(rows[..., :3]), REGION_PRECISION: region_precision(rows[..., 3:])}
