"""Points of ROC, precision-recall and region-overlap curves, few enough to draw and to keep."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flawmap.metrics.curves import at_or_above, overlap_steps
from flawmap.metrics.score_bins import ScoreCounts

MAX_POINTS = 300
OVERLAP_LIMIT = 0.3  # the false-positive rate up to which AUPRO is counted, and its curve drawn

Points = NDArray[np.float64]  # (k, 2): x, ascending, and y


@dataclass(frozen=True)
class PixelCurves:
    """Curves of all pixels of an evaluation, each of at most 300 points.

    Attributes:
        roc: share of normal pixels and share of anomalous pixels at or above each threshold, from (0, 0) to (1, 1).
        precision_recall: share of the anomalous pixels that are at or above each threshold, and share of the pixels at
            or above it that are anomalous, from the highest threshold on.
        overlap: share of normal pixels up to 0.3, and the mean overlap with the regions of the ground truth.
        anomalous_share: anomalous pixels over all pixels, which is the precision of guessing.
        n_images: how many images' pixels were counted.
    """

    roc: Points
    precision_recall: Points
    overlap: Points
    anomalous_share: float
    n_images: int


def pixel_curves(counts: ScoreCounts, n_regions: int, n_images: int) -> PixelCurves:
    """The curves of counted pixels, of which at least one is normal and one anomalous."""
    n_normal, n_anomalous = float(counts.normal.sum()), float(counts.anomalous.sum())
    return PixelCurves(
        roc_points(counts.normal, counts.anomalous),
        precision_recall_points(counts.normal, counts.anomalous),
        overlap_points(counts.normal, counts.region_share, n_regions),
        n_anomalous / (n_normal + n_anomalous),
        n_images,
    )


def roc_points(normal: NDArray[np.float64], anomalous: NDArray[np.float64]) -> Points:
    """The ROC curve of counts per ascending score, both (k,): at most 300 points from (0, 0) to (1, 1)."""
    rates = [np.flip(at_or_above(counts)) / max(counts.sum(), 1) for counts in (normal, anomalous)]
    return _thin(_from_origin(*rates), 1.0)


def precision_recall_points(normal: NDArray[np.float64], anomalous: NDArray[np.float64]) -> Points:
    """Recall and precision, from that of the highest score to the first with recall 1: at most 300 points.

    Args:
        normal: (k,), normal pixels per ascending score; each score occurs in one of the two.
        anomalous: (k,), anomalous pixels, at least one.
    """
    hits, alarms = (np.flip(at_or_above(counts)) for counts in (anomalous, normal))  # highest score first: (k,)
    points = np.stack([hits / anomalous.sum(), hits / (hits + alarms)], axis=1)
    n_until_recall_1 = int(np.searchsorted(hits, anomalous.sum())) + 1  # lower thresholds only add false alarms
    return _thin(points[:n_until_recall_1], 1.0)


def overlap_points(normal: NDArray[np.float64], region_share: NDArray[np.float64], n_regions: int) -> Points:
    """The per-region overlap curve from (0, 0) to ``OVERLAP_LIMIT``: at most 300 points.

    Args:
        normal: (k,), normal pixels per ascending score.
        region_share: (k,), Σ over regions of the share of the region's pixels that have this score.
        n_regions: how many regions there are.
    """
    width, overlap, _ = overlap_steps(normal, region_share, np.asarray(float(n_regions)), 1.0)
    return _thin(_from_origin(np.cumsum(width), overlap), OVERLAP_LIMIT)


def _from_origin(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    return np.stack([np.append(0, x), np.append(0, y)], axis=1)


def _thin(points: Points, limit: float) -> Points:
    """Cut a curve at a limit of its x axis, and keep points that are evenly spaced along the drawn line."""
    if points[-1, 0] > limit:
        y = float(np.interp(limit, points[:, 0], points[:, 1]))
        points = np.concatenate([points[points[:, 0] < limit], [[limit, y]]])
    if len(points) <= MAX_POINTS:
        return points
    steps = np.hypot(np.diff(points[:, 0]) / limit, np.diff(points[:, 1]))
    length = np.append(0, np.cumsum(steps))
    wanted = np.searchsorted(length, np.linspace(0, length[-1], MAX_POINTS)[:-1])
    return points[np.unique(np.append(wanted, len(points) - 1))]
