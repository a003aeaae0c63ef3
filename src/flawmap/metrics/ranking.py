"""Area under the ROC curve: exact for image scores, streaming with bounded memory for pixel scores.

The AUROC is the probability that a random anomalous score exceeds a random normal one, ties counted half
(the Mann-Whitney statistic). Label True means anomalous, and a higher score means more anomalous.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DROPPED_BITS = 12  # of float32's 32; the sign, 8 exponent and 11 mantissa bits remain
_N_CODES = 1 << (32 - _DROPPED_BITS)
_N_MAGNITUDES = _N_CODES // 2  # codes per sign
_KEPT_BITS = np.uint32((1 << 32) - (1 << _DROPPED_BITS))


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
    values = np.asarray(scores)
    flags = _as_flags(labels, values.shape).ravel()
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite, but some are NaN or infinite")
    distinct, place = np.unique(values.ravel(), return_inverse=True)
    positive = np.bincount(place[flags], minlength=distinct.size)
    negative = np.bincount(place[~flags], minlength=distinct.size)
    return _auroc_of_counts(positive, negative)


class BinnedScores:
    """Counts of anomalous and normal scores in fixed bins, from which the AUROC follows with a known error.

    A bin holds all float32 numbers that agree in their sign, exponent and upper 11 mantissa bits. So no range
    has to be known beforehand, the order of the bins is the order of the numbers, and a bin is never wider
    than 2^-11 (0.05 %) of its scores, or 2^-137 among the subnormal numbers. The one bin around zero holds
    +0.0, -0.0 and both signs of all that is below 2^-137; negating all scores therefore mirrors the bins
    exactly. Memory: 16 MiB, whatever is added.

    :meth:`auroc` is the exact AUROC of the scores after :meth:`quantise`, and differs from that of the scores
    themselves by at most :meth:`auroc_error_bound`.
    """

    def __init__(self) -> None:
        # Indexed by the float's own upper 20 bits: bringing the bins in order waits until a result is asked
        # for.
        self._all = np.zeros(_N_CODES, dtype=np.int64)
        self._positive = np.zeros(_N_CODES, dtype=np.int64)

    def add(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Counts scores, e.g. one anomaly map with its ground truth.

        Args:
            scores: any shape, finite; rounded to float32 (which keeps their order, so the error bound holds).
            labels: the same shape, bool (or 0 and 1); True = anomalous.

        Raises:
            ValueError: when the shapes differ, a score is not finite in float32 or a label is neither 0 nor
                1; nothing has been counted then.
        """
        values = _as_finite_float32(scores)
        flags = _as_flags(labels, values.shape)
        codes = values.view(np.uint32) >> np.uint32(_DROPPED_BITS)
        # np.add.at counts in place; np.bincount would convert to int64 and fill 8 MiB anew for each map.
        np.add.at(self._all, codes.ravel(), 1)
        np.add.at(self._positive, codes[flags], 1)

    def merge(self, other: "BinnedScores") -> None:
        """Adds all that another one has counted, e.g. in another process."""
        self._all += other._all
        self._positive += other._positive

    @classmethod
    def quantise(cls, scores: ArrayLike) -> NDArray[np.float32]:
        """The representative of each score's bin: its number nearest to zero, float32 of the same shape."""
        values = _as_finite_float32(scores)
        return (values.view(np.uint32) & _KEPT_BITS).view(np.float32) + np.float32(0)  # -0.0 + 0.0 is +0.0

    @property
    def n_positive(self) -> int:
        """How many anomalous scores have been counted."""
        return int(self._positive.sum())

    @property
    def n_negative(self) -> int:
        """How many normal scores have been counted."""
        return int(self._all.sum()) - self.n_positive

    def auroc(self) -> float | None:
        """AUROC in [0, 1] with scores of the same bin counted as ties, or None when a class is missing."""
        return _auroc_of_counts(*self._ordered_counts())

    def auroc_error_bound(self) -> float | None:
        """The most by which :meth:`auroc` can differ from the exact AUROC, or None when a class is missing.

        It is ½ Σ_b P(b) N(b), where P(b) and N(b) are the shares of the anomalous and the normal scores in
        bin b. Proof: the AUROC is the mean, over all pairs of an anomalous and a normal score, of 1, ½ or 0
        (greater, equal, less). Bins are ordered as the numbers are, so a pair from two bins counts the same
        before and after binning. A pair from one bin counts ½ after and 0, ½ or 1 before: it differs by at
        most ½. The share of pairs that lie in bin b is P(b) N(b).
        """
        positive, negative = self._ordered_counts()
        n_positive, n_negative = int(positive.sum()), int(negative.sum())
        if n_positive == 0 or n_negative == 0:
            return None
        return float(0.5 * np.sum((positive / n_positive) * (negative / n_negative)))

    def __repr__(self) -> str:
        return f"BinnedScores(n_positive={self.n_positive}, n_negative={self.n_negative})"

    def _ordered_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts of anomalous and of normal scores per occupied bin, the bins in ascending order."""
        codes = np.flatnonzero(self._all)
        magnitudes = codes % _N_MAGNITUDES
        signed = np.where(codes < _N_MAGNITUDES, magnitudes, -magnitudes)  # joins the bins of +0.0 and -0.0
        bins, place = np.unique(signed, return_inverse=True)
        positive = np.zeros(bins.size, dtype=np.int64)
        negative = np.zeros(bins.size, dtype=np.int64)
        np.add.at(positive, place, self._positive[codes])
        np.add.at(negative, place, self._all[codes] - self._positive[codes])
        return positive, negative


def _auroc_of_counts(positive: NDArray[np.integer], negative: NDArray[np.integer]) -> float | None:
    """AUROC of counts per distinct value, in ascending order of the values.

    Ranks are kept in integers and only shares become floats: the products of two large counts would overflow.
    """
    n_positive, n_negative = int(positive.sum()), int(negative.sum())
    if n_positive == 0 or n_negative == 0:
        return None
    occupied = np.flatnonzero(positive)  # a bin without anomalous scores adds nothing
    doubled_rank = 2 * np.cumsum(negative)[occupied] - negative[occupied]
    share = np.sum((positive[occupied] / n_positive) * (doubled_rank / (2 * n_negative)))
    return float(min(share, 1.0))  # rounding may exceed 1 by an ulp


def _as_finite_float32(scores: ArrayLike) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # too large for float32 is reported below, as what it is
        values = np.ascontiguousarray(scores, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite in float32, but some are NaN or infinite")
    return values.reshape(np.shape(scores))  # ascontiguousarray turns a scalar into a row


def _as_flags(labels: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    flags = np.asarray(labels)
    if flags.shape != shape:
        raise ValueError(f"scores have shape {shape}, but labels {flags.shape}")
    if flags.dtype == np.bool_:
        return flags
    if not np.isin(flags, (0, 1)).all():
        raise ValueError("labels must be bool, or 0 (normal) and 1 (anomalous)")
    return flags.astype(np.bool_)
