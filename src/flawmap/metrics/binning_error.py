"""How far a measure of binned scores can be from that of the scores themselves.

Bins are ordered as the numbers are, so that binning only loses the order within a bin. Each bound is the distance from
the value with ties to the best and to the worst that any order within the bins could give; no assumption is made about
the scores. Counts are of shape (k,) in ascending order of the bins. The bounds are of shape (), NaN where the normal or
the anomalous scores are missing.

Notation, for one bin: p anomalous and n normal scores in it, T and F at or above its lower end, P and N in all bins.
"""

import numpy as np
from numpy.typing import NDArray

from flawmap.metrics.curves import (
    Numbers,
    at_or_above,
    aupro_of_counts,
    average_precision_of_counts,
    f1_max_of_counts,
    overlap_steps,
)

Counts = NDArray[np.float64]


def auroc_error_bound(normal: Counts, anomalous: Counts) -> NDArray[np.float64]:
    """½ Σ (p / P) (n / N).

    Proof: the AUROC is the mean, over all pairs of an anomalous and a normal score, of 1, ½ or 0 (greater, equal,
    less). A pair from two bins counts the same before and after binning. A pair from one bin counts ½ after and 0, ½ or
    1 before: it differs by at most ½.
    """
    shares = (anomalous / max(anomalous.sum(), 1)) * (normal / max(normal.sum(), 1))
    return _if_both_occur(0.5 * float(shares.sum()), normal, anomalous)


def average_precision_error_bound(normal: Counts, anomalous: Counts) -> NDArray[np.float64]:
    """From the mean over anomalous scores of the precision at their own value.

    Proof: an anomalous score's precision is t / (t + f), with t anomalous and f normal scores at or above it. It grows
    with t and falls with f. In a bin, t <= T and f >= F - n, so that it is at most T / (T + F - n). For the i-th of the
    bin, t >= T - p + i and f <= F; with a = T - p + F, the sum over the bin is at least Σ_i (1 - F / (a + i)), which is
    at least p - F ln((a + p) / a), since 1 / (a + i) is at most the integral of 1 / x from a + i - 1 to a + i.
    """
    p, T, F = anomalous, at_or_above(anomalous), at_or_above(normal)
    a = T - p + F
    logarithm = np.log1p(np.divide(p, a, out=np.zeros_like(p), where=a > 0))  # a = 0 only where F = 0
    n_anomalous = max(p.sum(), 1)
    highest = np.sum(p * T / np.maximum(T + F - normal, 1)) / n_anomalous
    lowest = np.sum(p - F * logarithm) / n_anomalous
    value = float(average_precision_of_counts(normal, anomalous))
    return _if_both_occur(max(highest - value, value - lowest), normal, anomalous)


def f1_max_error_bound(normal: Counts, anomalous: Counts) -> NDArray[np.float64]:
    """max 2 T / (T + F - n + P) less the value.

    Proof: F1 = 2 t / (t + f + P) grows with t and falls with f; at a threshold in the bin, t <= T and f >= F - n. The
    thresholds between bins are among those of the scores themselves, so that the value is never too large.
    """
    T, F = at_or_above(anomalous), at_or_above(normal)
    highest = np.max(2 * T / np.maximum(T + F - normal + anomalous.sum(), 1), initial=0)
    value = float(f1_max_of_counts(normal, anomalous))
    return _if_both_occur(float(highest) - value, normal, anomalous)


def fpr_at_tpr_error_bound(normal: Counts, anomalous: Counts, tpr: float) -> NDArray[np.float64]:
    """n / N of the bin at whose lower end the anomalous are found.

    Proof: the exact threshold lies in this bin, as the next bin's lower end finds too few. So the exact rate lies
    between the value and the value less n / N.
    """
    reached = at_or_above(anomalous) / max(anomalous.sum(), 1) >= tpr
    in_bin = normal[np.flatnonzero(reached)[-1:]].sum()
    return _if_both_occur(float(in_bin / max(normal.sum(), 1)), normal, anomalous)


def aupro_error_bound(
    normal: Counts, region_share: Counts, n_regions: Numbers, fpr_limit: float
) -> NDArray[np.float64]:
    """From the area below and above all curves that pass through the points between bins.

    Proof: overlap and false-positive rate never fall as the threshold falls, so that between two points the exact curve
    stays in the rectangle that they span.
    """
    width, overlap, _ = overlap_steps(normal, region_share, n_regions, fpr_limit)
    before = overlap - np.diff(overlap, axis=-1, prepend=0)
    value = float(aupro_of_counts(normal, region_share, n_regions, fpr_limit))
    highest, lowest = np.sum(width * overlap) / fpr_limit, np.sum(width * before) / fpr_limit
    return _if_both_occur(max(highest - value, value - lowest), normal, region_share)


def _if_both_occur(bound: float, normal: Counts, anomalous: Counts) -> NDArray[np.float64]:
    return np.asarray(max(bound, 0.0) if normal.any() and anomalous.any() else np.nan)
