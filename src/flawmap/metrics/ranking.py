"""Measures of a ranking: exact for image scores, streaming with bounded memory for pixel scores.

Label True means anomalous, and a higher score means more anomalous. The AUROC is the probability that a random
anomalous score exceeds a random normal one, ties counted half (the Mann-Whitney statistic). All measures are None when
the normal or the anomalous scores are missing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics import binning_error, curves
from flawmap.metrics.score_bins import (
    BinTable,
    ScoreCounts,
    as_finite_float32,
    as_flags,
    count_scores,
    lowest_score_of_bin,
    quantise,
)


@dataclass(frozen=True)
class F1Max:
    """The largest F1 of any threshold, and the highest threshold that reaches it.

    Attributes:
        value: in [0, 1].
        threshold: here *anomalous* means ``score >= threshold``. It is chosen with the labels in hand: for comparison
            with others' tables, never for a decision.
    """

    value: float
    threshold: float


def auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Exact area under the ROC curve, ties counted half.

    Args:
        scores: any shape, finite; higher = more anomalous.
        labels: the same shape, bool (or 0 and 1); True = anomalous.

    Returns:
        The AUROC in [0, 1], or None when one of the two classes is missing.

    Raises:
        ValueError: when the shapes differ, a score is not finite or a label is neither 0 nor 1.
    """
    _, normal, anomalous = counts_per_score(scores, labels)
    return curves.value_or_none(curves.auroc_of_counts(normal, anomalous))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Exact area under the precision-recall curve in steps, as scikit-learn's; arguments as for :func:`auroc`."""
    _, normal, anomalous = counts_per_score(scores, labels)
    return curves.value_or_none(curves.average_precision_of_counts(normal, anomalous))


def f1_max(scores: ArrayLike, labels: ArrayLike) -> F1Max | None:
    """The largest F1 of any threshold; arguments as for :func:`auroc`."""
    distinct, normal, anomalous = counts_per_score(scores, labels)
    return _f1_max(normal, anomalous, lambda place: float(distinct[place]))


def fpr_at_tpr(scores: ArrayLike, labels: ArrayLike, tpr: float = 0.95) -> float | None:
    """The false-positive rate at the highest threshold that finds at least ``tpr`` of the anomalous.

    Args:
        scores: as for :func:`auroc`.
        labels: as for :func:`auroc`.
        tpr: in (0, 1].

    Returns:
        The rate in [0, 1], or None when one of the two classes is missing.

    Raises:
        ValueError: as :func:`auroc`.
    """
    _, normal, anomalous = counts_per_score(scores, labels)
    return curves.value_or_none(curves.fpr_at_tpr_of_counts(normal, anomalous, tpr))


def counts_per_score(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.generic], NDArray[np.float64], NDArray[np.float64]]:
    """The distinct scores, ascending, and how many normal and how many anomalous have each: three of shape (k,)."""
    values = np.asarray(scores)
    flags = as_flags(labels, values.shape).ravel()
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite, but some are NaN or infinite")
    distinct, place = np.unique(values.ravel(), return_inverse=True)
    anomalous = np.bincount(place[flags], minlength=distinct.size).astype(np.float64)
    return distinct, np.bincount(place[~flags], minlength=distinct.size).astype(np.float64), anomalous


class BinnedScores:
    """Counts of anomalous and normal scores in fixed bins, from which all measures follow with a known error.

    Bins are 2^-11 (0.05 %) of a score wide, see :mod:`flawmap.metrics.score_bins`. Memory: at most 24 MiB, whatever is
    added, and less than 1 MiB while scores of one sign span ten octaves.

    Each measure is the exact one of the scores after :meth:`quantise`. It differs from that of the scores themselves
    by at most what the method with ``_error_bound`` in its name returns; :mod:`flawmap.metrics.binning_error` has the
    proofs.
    """

    def __init__(self) -> None:
        self._table = BinTable()

    def add(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Counts scores, e.g. one anomaly map with its ground truth.

        Args:
            scores: any shape, finite; rounded to float32 (which keeps their order, so the error bound holds).
            labels: the same shape, bool (or 0 and 1); True = anomalous.

        Raises:
            ValueError: when the shapes differ, a score is not finite in float32 or a label is neither 0 nor
                1; nothing has been counted then.
        """
        values = as_finite_float32(scores)
        self._table.add(count_scores(values, as_flags(labels, values.shape)))

    def add_counts(self, counts: ScoreCounts) -> None:
        """Adds scores that have been counted already, e.g. once for several pools."""
        self._table.add(counts)

    def merge(self, other: "BinnedScores") -> None:
        """Adds all that another one has counted, e.g. in another process."""
        self._table.add(other.counts())

    def counts(self) -> ScoreCounts:
        """The occupied bins and what they hold."""
        return self._table.counts()

    @classmethod
    def quantise(cls, scores: ArrayLike) -> NDArray[np.float32]:
        """The representative of each score's bin: its number nearest to zero, float32 of the same shape."""
        return quantise(as_finite_float32(scores))

    @property
    def n_positive(self) -> int:
        """How many anomalous scores have been counted."""
        return int(self.counts().anomalous.sum())

    @property
    def n_negative(self) -> int:
        """How many normal scores have been counted."""
        return int(self.counts().normal.sum())

    def auroc(self) -> float | None:
        """AUROC in [0, 1] with scores of the same bin counted as ties, or None when a class is missing."""
        return self._of_counts(curves.auroc_of_counts)

    def auroc_error_bound(self) -> float | None:
        """The most by which :meth:`auroc` can differ from the exact AUROC, or None when a class is missing."""
        return self._of_counts(binning_error.auroc_error_bound)

    def average_precision(self) -> float | None:
        """Average precision in [0, 1], or None when a class is missing."""
        return self._of_counts(curves.average_precision_of_counts)

    def average_precision_error_bound(self) -> float | None:
        """The most by which :meth:`average_precision` can differ from the exact one."""
        return self._of_counts(binning_error.average_precision_error_bound)

    def f1_max(self) -> F1Max | None:
        """The largest F1 of any threshold between bins; ``score >= threshold`` reaches it on the scores themselves."""
        counts = self.counts()
        return _f1_max(counts.normal, counts.anomalous, lambda place: lowest_score_of_bin(int(counts.bins[place])))

    def f1_max_error_bound(self) -> float | None:
        """The most by which a threshold within a bin can exceed :meth:`f1_max`, which is never too large."""
        return self._of_counts(binning_error.f1_max_error_bound)

    def fpr_at_tpr(self, tpr: float = 0.95) -> float | None:
        """As the function :func:`fpr_at_tpr`, for thresholds between bins."""
        return self._of_counts(lambda normal, anomalous: curves.fpr_at_tpr_of_counts(normal, anomalous, tpr))

    def fpr_at_tpr_error_bound(self, tpr: float = 0.95) -> float | None:
        """The most by which :meth:`fpr_at_tpr`, which is never too small, can exceed the exact rate."""
        return self._of_counts(lambda normal, anomalous: binning_error.fpr_at_tpr_error_bound(normal, anomalous, tpr))

    def __repr__(self) -> str:
        return f"BinnedScores(n_positive={self.n_positive}, n_negative={self.n_negative})"

    def _of_counts(self, metric: Callable[..., NDArray[np.float64]]) -> float | None:
        counts = self.counts()
        return curves.value_or_none(metric(counts.normal, counts.anomalous))


def _f1_max(
    normal: NDArray[np.float64], anomalous: NDArray[np.float64], threshold_at: Callable[[int], float]
) -> F1Max | None:
    value = curves.value_or_none(curves.f1_max_of_counts(normal, anomalous))
    if value is None:
        return None
    highest = int(np.flatnonzero(curves.f1_of_counts(normal, anomalous) == value)[-1])
    return F1Max(value, threshold_at(highest))
