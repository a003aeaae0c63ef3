"""Pixel measures over many maps in bounded memory, with bootstrap intervals over images.

A pool keeps two things. The counts of all its pixels in fine bins give the values; they are exact for the binned scores
and their distance from the scores themselves is bounded. A sketch of each image, some thousand numbers, gives the
intervals: it joins bins, but only as many as hold less than 2 / 512 of the image's normal pixels, of its anomalous
pixels and of its regions, and fewer where few normal pixels lie above. An image with fewer distinct scores than that
is kept as it is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics import binning_error, curves
from flawmap.metrics.bootstrap import (
    N_RESAMPLES,
    NOTHING,
    Estimate,
    has_enough_images,
    percentile_interval,
    resample_weights,
)
from flawmap.metrics.curve_points import (
    OVERLAP_LIMIT,
    PixelCurves,
    overlap_points,
    precision_recall_points,
    roc_points,
)
from flawmap.metrics.defect_regions import number_regions
from flawmap.metrics.defect_size import size_class
from flawmap.metrics.ranking import BinnedScores
from flawmap.metrics.score_bins import ScoreCounts, as_finite_float32, as_flags, count_scores

FPR_LIMITS: Mapping[str, float] = {"aupro_30": 0.3, "aupro_05": 0.05}
PIXEL_METRICS = ("auroc", "average_precision", "f1_max", *FPR_LIMITS)

_SHARES = 512  # a group of bins holds less than 2 / 512 of the normal pixels, of the anomalous ones and of the regions
_STEPS_PER_OCTAVE = 32  # and the normal pixels above it double in no less than 32 groups
_BLOCK = 128  # images whose sketches are spread out at the same time


@dataclass(frozen=True)
class PixelImage:
    """One image's pixels, counted.

    Attributes:
        counts: in fine bins.
        sketch: the same pixels in some thousand bins at most.
        n_regions: connected regions (8 neighbours) of the ground truth.
    """

    counts: ScoreCounts
    sketch: ScoreCounts
    n_regions: int

    @property
    def anomalous_share(self) -> float:
        """Anomalous pixels over all pixels, in [0, 1]."""
        n_anomalous = float(self.counts.anomalous.sum())
        return n_anomalous / (n_anomalous + float(self.counts.normal.sum()))


def count_pixels(anomaly_map: ArrayLike, truth: ArrayLike) -> PixelImage:
    """Counts one map against its ground truth; once for all pools that it belongs to.

    Args:
        anomaly_map: (h, w), finite; rounded to float32; higher = more anomalous.
        truth: (h, w), bool; True = anomalous. All False for a normal image; an anomalous image of which nobody has
            said where its defect is must not come here.

    Raises:
        ValueError: when the shapes differ or are not (h, w) with at least one pixel, or a value is not finite.
    """
    values = as_finite_float32(anomaly_map)
    flags = as_flags(truth, values.shape)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"a map has shape (height, width), but this one {values.shape}")
    regions = number_regions(flags)
    areas = np.bincount(regions)
    counts = count_scores(values, flags, 1 / areas[regions])
    return PixelImage(counts, _sketch(counts), areas.size)


class PixelPool:
    """The pixels of many images together: all of them, or those of one defect kind and the normal ones.

    Memory: at most 24 MiB for the fine bins, usually less than 1 MiB, and for the sketches at most 35 KiB per normal
    and 80 KiB per anomalous image of a megapixel; pools that share images share their sketches.
    """

    def __init__(self) -> None:
        self._scores = BinnedScores()
        self._sketches: list[ScoreCounts] = []
        self._n_regions: list[int] = []

    def add(self, image: PixelImage) -> None:
        """Adds one image."""
        self._scores.add_counts(image.counts)
        self._sketches.append(image.sketch)
        self._n_regions.append(image.n_regions)

    def merge(self, other: "PixelPool") -> None:
        """Adds all images of another pool."""
        self._scores.merge(other._scores)
        self._sketches.extend(other._sketches)
        self._n_regions.extend(other._n_regions)

    @property
    def n_images(self) -> int:
        """How many images were added."""
        return len(self._sketches)

    @property
    def n_regions(self) -> int:
        """How many defect regions they have."""
        return sum(self._n_regions)

    @property
    def scores(self) -> BinnedScores:
        """The pixels' scores in fine bins, for the threshold of F1-max and other measures without interval."""
        return self._scores

    def aupro(self, fpr_limit: float) -> float | None:
        """Area under the per-region overlap curve up to a false-positive rate in (0, 1], over that rate."""
        counts, n_regions = self._scores.counts(), np.asarray(float(self.n_regions))
        return curves.value_or_none(
            curves.aupro_of_counts(counts.normal, counts.region_share, n_regions, float(fpr_limit))
        )

    def curves(self) -> PixelCurves | None:
        """Points of the ROC, precision-recall and overlap curves of the fine bins, or None when a class is missing."""
        counts = self._scores.counts()
        n_normal, n_anomalous = float(counts.normal.sum()), float(counts.anomalous.sum())
        if not n_normal or not n_anomalous:
            return None
        return PixelCurves(
            roc_points(counts.normal, counts.anomalous),
            precision_recall_points(counts.normal, counts.anomalous),
            overlap_points(counts.normal, counts.region_share, self.n_regions, OVERLAP_LIMIT),
            n_anomalous / (n_normal + n_anomalous),
            self.n_images,
        )

    def estimates(self, generator: np.random.Generator, n_resamples: int = N_RESAMPLES) -> dict[str, Estimate]:
        """AUROC, average precision, F1-max and AUPRO at 0.3 and 0.05 with their bootstrap intervals.

        An interval's ends are those of the sketches, moved by the difference between the value of the fine bins and
        that of the sketches on the same images (``interval_shift``, usually below 0.001).

        Args:
            generator: of the bootstrap, e.g. ``numpy_generator(seed, "bootstrap")``.
            n_resamples: of the bootstrap; 1,000 take about two seconds for 1,000 images.

        Returns:
            an estimate for each name of ``PIXEL_METRICS``; all None when no pixel is normal or none is anomalous, and
            without interval when there are fewer than ``MIN_IMAGES`` images without or with defects.
        """
        counts = self._scores.counts()
        if not counts.normal.any() or not counts.anomalous.any():
            return dict.fromkeys(PIXEL_METRICS, NOTHING)
        n_regions = np.array(self._n_regions, np.float64)
        fine = (counts.normal, counts.anomalous, counts.region_share, np.asarray(n_regions.sum()))
        values = {name: float(_METRICS[name](*fine)) for name in PIXEL_METRICS}
        errors = {name: float(_ERROR_BOUNDS[name](*fine)) for name in PIXEL_METRICS}
        if not has_enough_images(n_regions > 0):
            return {name: Estimate(values[name], None, None, errors[name]) for name in PIXEL_METRICS}
        edges = counts.bins[_group_starts(counts)]
        sketched = self._measure_weighted(np.ones((1, self.n_images)), edges)
        resampled = [
            self._measure_weighted(weights, edges)
            for weights in resample_weights(n_regions > 0, n_resamples, generator, edges.size)
        ]
        estimates = {}
        for name in PIXEL_METRICS:
            shift = values[name] - float(sketched[name][0])
            interval = percentile_interval(np.concatenate([chunk[name] for chunk in resampled]), shift)
            estimates[name] = Estimate(values[name], *interval, errors[name], shift)
        return estimates

    def _measure_weighted(
        self, weights: NDArray[np.float64], edges: NDArray[np.int32]
    ) -> dict[str, NDArray[np.float64]]:
        """All measures (b,) when image i counts ``weights[:, i]`` times; bins are joined from each edge to the next."""
        n_regions = np.array(self._n_regions, np.float64)
        sums = {row: np.zeros((len(weights), edges.size)) for row in ("normal", "anomalous", "region_share")}
        for start in range(0, self.n_images, _BLOCK):
            block = np.arange(start, min(start + _BLOCK, self.n_images))
            for row, total in sums.items():
                members = block if row == "normal" else block[n_regions[block] > 0]
                spread = np.zeros((members.size, edges.size))
                for line, member in zip(spread, members, strict=True):
                    sketch = self._sketches[member]
                    group = np.searchsorted(edges, sketch.bins, side="right") - 1
                    line += np.bincount(group, getattr(sketch, row), minlength=edges.size)
                total += weights[:, members] @ spread
        return {name: metric(*sums.values(), weights @ n_regions) for name, metric in _METRICS.items()}


class PixelPools:
    """All images of an evaluation, by defect kind and by defect size."""

    def __init__(self) -> None:
        self._normal = PixelPool()
        self._by_kind: dict[str, PixelPool] = defaultdict(PixelPool)
        self._by_size: dict[str, PixelPool] = defaultdict(PixelPool)

    def add(self, image: PixelImage, kind: str, anomalous_share: float | None = None) -> None:
        """Adds one image.

        Args:
            image: counted.
            kind: its defect kind; ignored where no pixel is anomalous.
            anomalous_share: of the image at its original resolution, where it was counted at another; in (0, 1].
        """
        if image.n_regions == 0:
            self._normal.add(image)
        else:
            self._by_kind[kind].add(image)
            share = image.anomalous_share if anomalous_share is None else anomalous_share
            self._by_size[size_class(share)].add(image)

    def everything(self) -> PixelPool:
        """All images."""
        return _merged([self._normal, *self._by_kind.values()])

    def by_kind(self) -> dict[str, PixelPool]:
        """The images of each defect kind, with all normal images."""
        return {kind: _merged([self._normal, pool]) for kind, pool in sorted(self._by_kind.items())}

    def by_size(self) -> dict[str, PixelPool]:
        """The images of each class of defect size that occurs, with all normal images."""
        return {size: _merged([self._normal, pool]) for size, pool in sorted(self._by_size.items())}


def _merged(pools: Iterable[PixelPool]) -> PixelPool:
    merged = PixelPool()
    for pool in pools:
        merged.merge(pool)
    return merged


def _sketch(counts: ScoreCounts) -> ScoreCounts:
    """Joins bins into groups; the middle one of a group stands for it."""
    first = _group_starts(counts)
    middle = (first + np.append(first[1:], counts.bins.size) - 1) // 2
    rows = (np.add.reduceat(row, first) for row in (counts.normal, counts.anomalous, counts.region_share))
    return ScoreCounts(counts.bins[middle], *rows)


def _group_starts(counts: ScoreCounts) -> NDArray[np.intp]:
    """Where groups of bins begin.

    Two neighbours stay together when the middles of their pixels lie in the same 512th of all normal pixels, of all
    anomalous ones and of all regions, and in the same 32nd of an octave of normal pixels that lie above: at a
    false-positive rate of one in a million, a share of the whole would resolve nothing.
    """
    above = curves.at_or_above(counts.normal) - counts.normal / 2
    levels = [np.floor(_STEPS_PER_OCTAVE * np.log2(np.maximum(above, 0.5)))]
    for row in (counts.normal, counts.anomalous, counts.region_share):
        if row.any():
            levels.append(np.floor(_SHARES * (np.cumsum(row) - row / 2) / row.sum()))
    return np.append(0, 1 + np.flatnonzero(np.any(np.diff(levels, axis=1) != 0, axis=0)))


def _of_ranking(metric: Callable[..., NDArray[np.float64]]) -> Callable[..., NDArray[np.float64]]:
    return lambda normal, anomalous, region_share, n_regions: metric(normal, anomalous)


def _of_overlap(metric: Callable[..., NDArray[np.float64]], limit: float) -> Callable[..., NDArray[np.float64]]:
    return lambda normal, anomalous, region_share, n_regions: metric(normal, region_share, n_regions, limit)


_METRICS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "auroc": _of_ranking(curves.auroc_of_counts),
    "average_precision": _of_ranking(curves.average_precision_of_counts),
    "f1_max": _of_ranking(curves.f1_max_of_counts),
    **{name: _of_overlap(curves.aupro_of_counts, limit) for name, limit in FPR_LIMITS.items()},
}
_ERROR_BOUNDS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "auroc": _of_ranking(binning_error.auroc_error_bound),
    "average_precision": _of_ranking(binning_error.average_precision_error_bound),
    "f1_max": _of_ranking(binning_error.f1_max_error_bound),
    **{name: _of_overlap(binning_error.aupro_error_bound, limit) for name, limit in FPR_LIMITS.items()},
}
