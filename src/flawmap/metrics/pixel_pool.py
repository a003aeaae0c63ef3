"""Pixel measures over many maps in bounded memory, with bootstrap intervals over images.

A pool keeps two things. The counts of all its pixels in fine bins give the values, which are exact for the binned
scores. A sketch of each image, some thousand numbers, gives the intervals. A sketch joins bins into groups. A group
holds less than 2 / 512 of the image's normal pixels, of its anomalous pixels and of its regions, and less still where
few normal pixels have higher scores. An image with few distinct scores is kept as it is.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics import curves
from flawmap.metrics.bootstrap import N_RESAMPLES, NOTHING, Estimate, bootstrap_estimates
from flawmap.metrics.curve_points import PixelCurves, pixel_curves
from flawmap.metrics.defect_regions import number_regions
from flawmap.metrics.defect_size import size_class
from flawmap.metrics.fixed_threshold import Decisions, as_row, decisions_at, measures_of_rows
from flawmap.metrics.ranking import BinnedScores
from flawmap.metrics.score_bins import ScoreCounts, as_finite_float32, as_flags, count_scores

FPR_LIMITS: Mapping[str, float] = {"aupro_30": 0.3, "aupro_05": 0.05}
PIXEL_METRICS = ("auroc", "average_precision", "f1_max", *FPR_LIMITS)

SHARES = 512  # a group of bins holds less than 2 / 512 of the normal pixels, of the anomalous ones and of the regions
STEPS_PER_OCTAVE = 32  # the number of normal pixels above doubles within 32 groups or more
_BLOCK = 128  # images whose sketches are spread out at the same time


@dataclass(frozen=True)
class PixelImage:
    """One image's pixels, counted.

    Attributes:
        counts: of its pixels in fine bins.
        sketch: of the same pixels in at most some thousand bins.
        n_regions: connected regions (8 neighbours) of the ground truth, or defects that are marked one by one.
        decisions: at the threshold that was fixed beforehand; None without one.
    """

    counts: ScoreCounts
    sketch: ScoreCounts
    n_regions: int
    decisions: Decisions | None = None

    @property
    def anomalous_share(self) -> float:
        """Anomalous pixels over all pixels, in [0, 1]."""
        n_anomalous = float(self.counts.anomalous.sum())
        return n_anomalous / (n_anomalous + float(self.counts.normal.sum()))


def count_pixels(
    anomaly_map: ArrayLike,
    truth: ArrayLike,
    threshold: float | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> PixelImage:
    """Count a map against its ground truth, once for all pools that it belongs to.

    Args:
        anomaly_map: (h, w), finite; rounded to float32; higher = more anomalous.
        truth: (h, w), bool; True = anomalous. All False for a good image. A defective image without a mask must not
            be counted.
        threshold: of map values, fixed before any test image was seen; None without one.
        inside: (h, w), the pixels that count: a defect is what of it lies there. None: all.

    Raises:
        ValueError: the shapes differ or are not (h, w) with at least one pixel, or a value is not finite.
    """
    values = as_finite_float32(anomaly_map)
    flags = as_flags(truth, values.shape)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"a map has shape (height, width), but this one {values.shape}")
    if inside is not None:
        flags = flags & inside
    regions = number_regions(flags)
    areas = np.bincount(regions)
    decisions = None if threshold is None else decisions_at(values, flags, threshold, inside)
    if inside is not None:
        values, flags = values[inside], flags[inside]  # (m,), with the defect's pixels in the same order
    return counted_image(count_scores(values, flags, 1 / areas[regions]), areas.size, decisions)


def counted_image(counts: ScoreCounts, n_regions: int, decisions: Decisions | None = None) -> PixelImage:
    """An image from its counts, with their sketch."""
    return PixelImage(counts, _sketch(counts), n_regions, decisions)


class PixelPool:
    """The pixels of many images together: of all images, or of one defect kind and the good ones.

    Memory: at most 24 MiB for the fine bins, usually less than 1 MiB, and for the sketches at most 35 KiB per good
    and 80 KiB per defective image of a megapixel. Pools that share images share their sketches.
    """

    def __init__(self) -> None:
        self._scores = BinnedScores()
        self._sketches: list[ScoreCounts] = []
        self._n_regions: list[int] = []
        self._groups: list[str | None] = []
        self._decisions: list[Decisions | None] = []

    def add(self, image: PixelImage, group: str | None = None) -> None:
        """Add an image, and the group that it belongs to if there is one."""
        self._scores.add_counts(image.counts)
        self._sketches.append(image.sketch)
        self._n_regions.append(image.n_regions)
        self._groups.append(group)
        self._decisions.append(image.decisions)

    def merge(self, other: "PixelPool") -> None:
        """Add all images of another pool."""
        self._scores.add_counts(other._scores.counts())
        self._sketches.extend(other._sketches)
        self._n_regions.extend(other._n_regions)
        self._groups.extend(other._groups)
        self._decisions.extend(other._decisions)

    @property
    def n_images(self) -> int:
        """How many images were added."""
        return len(self._sketches)

    @property
    def n_regions(self) -> int:
        """How many defect regions they have."""
        return sum(self._n_regions)

    def curves(self) -> PixelCurves | None:
        """Points of the ROC, precision-recall and overlap curves, or None where a class is missing."""
        counts = self._scores.counts()
        if not counts.normal.any() or not counts.anomalous.any():
            return None
        return pixel_curves(counts, self.n_regions, self.n_images)

    def values(self) -> dict[str, float]:
        """A value for each name of ``PIXEL_METRICS``; nothing where no pixel is normal or none is anomalous.

        Where all images were counted with a threshold, F1 at it, exact, is among them, and so is the precision of
        regions above it if there are any.
        """
        counts = self._scores.counts()
        if not counts.normal.any() or not counts.anomalous.any():
            return {}
        n_regions = np.asarray(float(self.n_regions))
        measures = _measures(counts.normal, counts.anomalous, counts.region_share, n_regions)
        decisions = self._decided()
        if decisions is not None:
            fixed = measures_of_rows(decisions.sum(axis=0))
            measures |= {name: value for name, value in fixed.items() if np.isfinite(value)}
        return {name: float(value) for name, value in measures.items()}

    def _decided(self) -> NDArray[np.float64] | None:
        """The decisions on each image as a row, (n, 5); None where an image was counted without a threshold."""
        rows = [as_row(decisions) for decisions in self._decisions if decisions is not None]
        return np.array(rows, np.float64) if rows and len(rows) == self.n_images else None

    def estimates(self, generator: np.random.Generator, n_resamples: int = N_RESAMPLES) -> dict[str, Estimate]:
        """AUROC, average precision, F1-max and AUPRO at 0.3 and 0.05 with their bootstrap intervals.

        The intervals come from the sketches. They are moved by the difference between the value of the fine bins and
        that of the sketches on the same images, which is usually below 0.001.

        Args:
            generator: of the bootstrap, e.g. ``numpy_generator(seed, "bootstrap")``.
            n_resamples: of the bootstrap; 1,000 take about two seconds for 1,000 images.

        Returns:
            an estimate for each name of :meth:`values`; all of ``PIXEL_METRICS`` None where no pixel is normal or none
            is anomalous, and without an interval where there are fewer than ``MIN_IMAGES`` images (or groups) with or
            without defects.
        """
        values = self.values()
        if not values:
            return dict.fromkeys(PIXEL_METRICS, NOTHING)
        counts = self._scores.counts()
        edges = counts.bins[_group_starts(counts)]
        measure, has_defect = partial(self._measure_weighted, edges), np.array(self._n_regions) > 0
        return bootstrap_estimates(values, measure, has_defect, generator, n_resamples, edges.size, self._groups)

    def _measure_weighted(
        self, edges: NDArray[np.int32], weights: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """All measures (b,), from the sketches, when image i counts ``weights[:, i]`` times.

        Args:
            edges: (g,), the first bin of each group; bins are joined from each edge to the next.
            weights: (b, n).
        """
        n_regions = np.array(self._n_regions, np.float64)
        sums = {row: np.zeros((len(weights), edges.size)) for row in ("normal", "anomalous", "region_share")}
        for start in range(0, self.n_images, _BLOCK):
            block = np.arange(start, min(start + _BLOCK, self.n_images))
            for row, total in sums.items():
                members = block if row == "normal" else block[n_regions[block] > 0]
                spread = np.zeros((members.size, edges.size))  # (m, g)
                for line, member in zip(spread, members, strict=True):
                    sketch = self._sketches[member]
                    group = np.searchsorted(edges, sketch.bins, side="right") - 1
                    line += np.bincount(group, getattr(sketch, row), minlength=edges.size)
                total += weights[:, members] @ spread
        measures = _measures(sums["normal"], sums["anomalous"], sums["region_share"], weights @ n_regions)
        decisions = self._decided()
        return measures if decisions is None else measures | measures_of_rows(weights @ decisions)


class PixelPools:
    """All images of an evaluation, by defect kind and by defect size."""

    def __init__(self) -> None:
        self._normal = PixelPool()
        self._by_kind: dict[str, PixelPool] = defaultdict(PixelPool)
        self._by_size: dict[str, PixelPool] = defaultdict(PixelPool)

    def add(self, image: PixelImage, kind: str, anomalous_share: float | None = None, group: str | None = None) -> None:
        """Add an image.

        Args:
            image: counted.
            kind: its defect kind; ignored where no pixel is anomalous.
            anomalous_share: of the image at its original resolution, where it was counted at another; in (0, 1].
            group: that it belongs to, if there is one.
        """
        if image.n_regions == 0:
            self._normal.add(image, group)
        else:
            self._by_kind[kind].add(image, group)
            share = image.anomalous_share if anomalous_share is None else anomalous_share
            self._by_size[size_class(share)].add(image, group)

    def everything(self) -> PixelPool:
        """All images."""
        return _merged([self._normal, *self._by_kind.values()])

    def by_kind(self) -> dict[str, PixelPool]:
        """The images of each defect kind, with all good images."""
        return {kind: _merged([self._normal, pool]) for kind, pool in sorted(self._by_kind.items())}

    def by_size(self) -> dict[str, PixelPool]:
        """The images of each class of defect size that occurs, with all good images."""
        return {size: _merged([self._normal, pool]) for size, pool in sorted(self._by_size.items())}


def _measures(
    normal: curves.Counts, anomalous: curves.Counts, region_share: curves.Counts, n_regions: curves.Numbers
) -> dict[str, NDArray[np.float64]]:
    """Each of ``PIXEL_METRICS``, (...), from counts (..., k)."""
    return {
        "auroc": curves.auroc_of_counts(normal, anomalous),
        "average_precision": curves.average_precision_of_counts(normal, anomalous),
        "f1_max": curves.f1_max_of_counts(normal, anomalous),
        **{name: curves.aupro_of_counts(normal, region_share, n_regions, limit) for name, limit in FPR_LIMITS.items()},
    }


def _merged(pools: Iterable[PixelPool]) -> PixelPool:
    merged = PixelPool()
    for pool in pools:
        merged.merge(pool)
    return merged


def _sketch(counts: ScoreCounts) -> ScoreCounts:
    """Join bins into groups; the middle bin of a group stands for it."""
    first = _group_starts(counts)
    middle = (first + np.append(first[1:], counts.bins.size) - 1) // 2
    rows = (np.add.reduceat(row, first) for row in (counts.normal, counts.anomalous, counts.region_share))
    return ScoreCounts(counts.bins[middle], *rows)


def _group_starts(counts: ScoreCounts) -> NDArray[np.intp]:
    """Where groups of bins begin, as places in ``counts.bins``.

    Two neighbouring bins stay together where the middles of their pixels lie in the same 512th of all normal pixels, of
    all anomalous ones and of all regions, and in the same 32nd of an octave of the number of normal pixels above. The
    last condition resolves false-positive rates as small as one in a million, for which a share is too coarse.
    """
    above = curves.at_or_above(counts.normal) - counts.normal / 2
    levels = [np.floor(STEPS_PER_OCTAVE * np.log2(np.maximum(above, 0.5)))]
    for row in (counts.normal, counts.anomalous, counts.region_share):
        if row.any():
            levels.append(np.floor(SHARES * (np.cumsum(row) - row / 2) / row.sum()))
    return np.append(0, 1 + np.flatnonzero(np.any(np.diff(levels, axis=1) != 0, axis=0)))
