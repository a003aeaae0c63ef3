"""Areas and points of ROC, precision-recall and region-overlap curves, from counts per distinct score.

Every function takes counts of shape (..., k): k distinct scores (or bins of scores) in ascending order, and any number
of leading axes, for example the resamples of a bootstrap. It returns (...), with NaN where the normal or the anomalous
scores are missing. Equal scores are ties: no threshold separates them.
"""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
Numbers = NDArray[np.float64] | np.float64  # numpy makes scalars of arrays of shape ()


def auroc_of_counts(normal: Counts, anomalous: Counts) -> NDArray[np.float64]:
    """Area under the ROC curve: the share of pairs that are in the right order, ties counted half."""
    rank = np.cumsum(normal, axis=-1) - normal / 2
    n_ordered_pairs = np.sum(anomalous * rank, axis=-1)
    return _where_both_occur(n_ordered_pairs / _total(normal) / _total(anomalous), normal, anomalous)


def average_precision_of_counts(normal: Counts, anomalous: Counts) -> NDArray[np.float64]:
    """Σ_t (recall(t) - recall(the next higher t)) · precision(t), without interpolation, as scikit-learn defines it."""
    hits, alarms = at_or_above(anomalous), at_or_above(normal)
    precision = hits / np.maximum(hits + alarms, 1)  # a resample may lack the highest scores
    value = np.sum(anomalous * precision, axis=-1) / _total(anomalous)
    return _where_both_occur(value, normal, anomalous)


def f1_max_of_counts(normal: Counts, anomalous: Counts) -> NDArray[np.float64]:
    """The largest F1 = 2 TP / (2 TP + FP + FN) of any threshold."""
    hits, alarms = at_or_above(anomalous), at_or_above(normal)
    f1 = 2 * hits / (hits + alarms + _total(anomalous)[..., None])  # of the threshold at each score: (..., k)
    return _where_both_occur(f1.max(axis=-1, initial=0), normal, anomalous)


def fpr_at_tpr_of_counts(normal: Counts, anomalous: Counts, tpr: float) -> NDArray[np.float64]:
    """The false-positive rate at the highest threshold whose true-positive rate is at least ``tpr``, not interpolated.

    Args:
        normal: (..., k).
        anomalous: (..., k).
        tpr: in (0, 1].
    """
    share = at_or_above(anomalous) / _total(anomalous)[..., None]
    at_or_above_threshold = np.diff(share >= tpr, axis=-1, append=False) | (share < tpr)
    value = np.sum(normal, axis=-1, where=at_or_above_threshold) / _total(normal)
    return _where_both_occur(value, normal, anomalous)


def aupro_of_counts(normal: Counts, region_share: Counts, n_regions: Numbers, fpr_limit: float) -> NDArray[np.float64]:
    """Area under the per-region overlap curve up to a false-positive rate, divided by that rate.

    The curve gives, over the share of all normal pixels that are at or above a threshold, the mean over regions of the
    share of the region that is. It starts at (0, 0), is linear between thresholds, and its last piece is cut at the
    limit (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021).

    Args:
        normal: (..., k), normal pixels per score.
        region_share: (..., k), Σ over regions of the share of the region's pixels that have this score.
        n_regions: (...).
        fpr_limit: in (0, 1].
    """
    width, overlap, reached = overlap_steps(normal, region_share, n_regions, fpr_limit)
    before = overlap - np.diff(overlap, axis=-1, prepend=0)
    at_end = before + (overlap - before) * reached
    area = np.sum(width * (before + at_end) / 2, axis=-1) / fpr_limit
    return np.asarray(np.where((normal.sum(axis=-1) > 0) & (n_regions > 0), np.minimum(area, 1), np.nan))


def overlap_steps(
    normal: Counts, region_share: Counts, n_regions: Numbers, fpr_limit: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The region-overlap curve, one step per score, the highest score first.

    Returns:
        three arrays of shape (..., k): the width of the step in false-positive rate, as far as it lies below the limit;
        the mean overlap after the step; the share of the step that lies below the limit.
    """
    n_normal = np.maximum(normal.sum(axis=-1, keepdims=True), 1)
    rate = np.cumsum(np.flip(normal, -1), axis=-1) / n_normal
    overlap = np.cumsum(np.flip(region_share, -1), axis=-1) / np.maximum(np.expand_dims(n_regions, -1), 1)
    step = np.diff(rate, axis=-1, prepend=0)
    width = np.diff(np.minimum(rate, fpr_limit), axis=-1, prepend=0)
    reached = np.divide(width, step, out=np.zeros_like(step), where=step > 0)
    return width, overlap, reached


def at_or_above(counts: Counts) -> NDArray[np.float64]:
    """How many scores are as high as each or higher, (..., k)."""
    return np.flip(np.cumsum(np.flip(counts, -1), axis=-1), -1)


def value_or_none(value: Numbers) -> float | None:
    """A single result as a float, None instead of NaN."""
    return None if np.isnan(value) else float(value)


def _total(counts: Counts) -> NDArray[np.float64]:
    """The sum over scores, but at least 1, so that it can be divided by."""
    return np.asarray(np.maximum(counts.sum(axis=-1), 1))


def _where_both_occur(value: Numbers, normal: Counts, anomalous: Counts) -> NDArray[np.float64]:
    both = (normal.sum(axis=-1) > 0) & (anomalous.sum(axis=-1) > 0)
    return np.asarray(np.where(both, np.minimum(value, 1), np.nan))  # rounding may exceed 1 by an ulp
