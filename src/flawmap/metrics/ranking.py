"""The AUROC of image scores, exact, and of pixel scores, streaming in bounded memory.

Label True means anomalous, and a higher score means more anomalous. The AUROC is the probability that a random
anomalous score exceeds a random normal one, ties counted half (the Mann-Whitney statistic).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics.curves import auroc_of_counts, value_or_none
from flawmap.metrics.score_bins import BINS_PER_OCTAVE, ScoreCounts, as_finite_float32, as_flags, count_scores


def auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Exact area under the ROC curve, ties counted half.

    Args:
        scores: any shape, finite; higher = more anomalous.
        labels: the same shape, bool (or 0 and 1); True = anomalous.

    Returns:
        the AUROC in [0, 1], or None where one of the two classes is missing.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    _, normal, anomalous = counts_per_score(scores, labels)
    return value_or_none(auroc_of_counts(normal, anomalous))


def counts_per_score(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.generic], NDArray[np.float64], NDArray[np.float64]]:
    """The distinct scores, ascending, and how many normal and how many anomalous have each: three of shape (k,)."""
    values = np.asarray(scores)
    flags = as_flags(labels, values.shape).ravel()
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite, but some are NaN or infinite")
    distinct, place = np.unique(values.ravel(), return_inverse=True)
    normal, anomalous = (
        np.bincount(place[in_class], minlength=distinct.size).astype(np.float64) for in_class in (~flags, flags)
    )
    return distinct, normal, anomalous


class BinnedScores:
    """Counts of normal and anomalous scores in fixed bins, for the AUROC of more scores than fit into memory.

    Bins are 2^-11 (0.05 %) of a score wide, see :mod:`flawmap.metrics.score_bins`. The AUROC is exact but for the bins:
    scores of one bin count as ties. Memory grows with the range of the scores. It is at
    most 24 MiB, and less than 1 MiB while scores of one sign span ten octaves.
    """

    def __init__(self) -> None:
        self._lowest = 0  # number of the bin in the first column
        self._rows = np.zeros((3, 0))  # normal, anomalous and region_share of each bin

    def add(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Count scores, e.g. an anomaly map with its ground truth.

        Args:
            scores: any shape, finite; rounded to float32, which keeps their order.
            labels: the same shape, bool (or 0 and 1); True = anomalous.

        Raises:
            ValueError: the shapes differ, a score is not finite in float32, or a label is neither 0 nor 1; nothing
                has been counted then.
        """
        values = as_finite_float32(scores)
        self.add_counts(count_scores(values, as_flags(labels, values.shape)))

    def add_counts(self, counts: ScoreCounts) -> None:
        """Add scores that have been counted already."""
        if counts.bins.size == 0:
            return
        self._cover(int(counts.bins[0]), int(counts.bins[-1]))
        place = counts.bins - self._lowest
        for row, added in zip(self._rows, (counts.normal, counts.anomalous, counts.region_share), strict=True):
            if added.any():
                row[place] += added

    def counts(self) -> ScoreCounts:
        """What has been added, the occupied bins only."""
        occupied = np.flatnonzero((self._rows[0] != 0) | (self._rows[1] != 0))
        return ScoreCounts((occupied + self._lowest).astype(np.int32), *self._rows[:, occupied])

    def auroc(self) -> float | None:
        """AUROC in [0, 1], or None where a class is missing."""
        counts = self.counts()
        return value_or_none(auroc_of_counts(counts.normal, counts.anomalous))

    def _cover(self, lowest: int, highest: int) -> None:
        """Make room for two bins and all between them, in whole octaves, so that it happens rarely."""
        width = self._rows.shape[1]
        if width and self._lowest <= lowest and highest < self._lowest + width:
            return
        if width:
            lowest, highest = min(lowest, self._lowest), max(highest, self._lowest + width - 1)
        lowest = lowest // BINS_PER_OCTAVE * BINS_PER_OCTAVE
        rows = np.zeros((3, (highest // BINS_PER_OCTAVE + 1) * BINS_PER_OCTAVE - lowest))
        rows[:, self._lowest - lowest : self._lowest - lowest + width] = self._rows if width else 0
        self._lowest, self._rows = lowest, rows
