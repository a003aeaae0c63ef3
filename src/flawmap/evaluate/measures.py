"""Every measure of an evaluation with its interval: of all images, and of each defect kind, defect size and stratum."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.truth import Truth
from flawmap.data.sample import LabelledImage, Protocol
from flawmap.evaluate.evaluable import Analysed
from flawmap.metrics.bootstrap import Estimate
from flawmap.metrics.defect_size import size_class
from flawmap.metrics.evaluation_size import at_evaluation_size
from flawmap.metrics.fixed_threshold import F1_AT_THRESHOLD, REGION_PRECISION
from flawmap.metrics.image_metrics import image_estimates, image_estimates_by
from flawmap.metrics.pixel_pool import PixelPool, PixelPools, count_pixels
from flawmap.metrics.ranking import BinnedScores
from flawmap.metrics.saturated_overlap import count_saturated
from flawmap.reproducibility import numpy_generator
from flawmap.runs.evaluation import Block, Measure, OutsideRoi

BOOTSTRAP_SEED = 0  # fixed, so that the same scores always have the same intervals
IMAGE_KEYS = {
    "auroc": "auroc",
    "ap": "average_precision",
    "f1_max": "f1_max",
    "fpr_at_95_tpr": "fpr_at_tpr_95",
    F1_AT_THRESHOLD: F1_AT_THRESHOLD,
}
PIXEL_KEYS = {
    "auroc": "auroc",
    "ap": "average_precision",
    "f1_max": "f1_max",
    "aupro_30": "aupro_30",
    "aupro_05": "aupro_05",
    F1_AT_THRESHOLD: F1_AT_THRESHOLD,
    REGION_PRECISION: REGION_PRECISION,
}
SATURATED_KEYS = {"au_spro_30": "aupro_30", "au_spro_05": "aupro_05"}  # of a pool of saturated overlaps


@dataclass(frozen=True)
class ScoredSample:
    """One test image with its scores.

    Attributes:
        sample: image, label, kind and strata.
        scores: every image score by name.
        logits: of each test size alone, by its side in pixels.
        anomalous_share: anomalous pixels over all pixels of the image at its original resolution; None for a good
            image, and where there is no ground truth.
        is_flagged: whether it is called anomalous; None without a threshold.
    """

    sample: LabelledImage
    scores: dict[str, float]
    logits: dict[int, float]
    anomalous_share: float | None
    is_flagged: bool | None = None


@dataclass
class PooledPixels:
    """The pixels of all images that the protocol admits, counted as they come.

    Attributes:
        protocol: which images enter.
        evaluation_size_px: side of the square that maps and truth are resized to; None keeps the original resolution.
        pools: by defect kind and size.
        saturated: likewise, with overlaps that saturate; empty where the protocol has none. Their areas are in pixels
            of the original image, so they are counted at its resolution.
        by_stratum: ``sex=F`` and the like.
        by_scale: by the size in pixels that the detector looked at.
        n_images: how many entered.
        inside_pixels, all_pixels: of all images, in the region of interest and in all.
        defect_pixels, defect_pixels_outside: of anomalous images; outside of the region of interest.
        images_outside: anomalous images whose whole defect lies there.
    """

    protocol: Protocol
    evaluation_size_px: int | None = None
    pools: PixelPools = field(default_factory=PixelPools)
    saturated: PixelPools = field(default_factory=PixelPools)
    by_stratum: dict[str, PixelPool] = field(default_factory=lambda: defaultdict(PixelPool))
    by_scale: dict[int, BinnedScores] = field(default_factory=lambda: defaultdict(BinnedScores))
    n_images: int = 0
    inside_pixels: int = 0
    all_pixels: int = 0
    defect_pixels: int = 0
    defect_pixels_outside: int = 0
    images_outside: int = 0

    def add(self, sample: LabelledImage, analysis: Analysed, marked: Truth, map_threshold: float | None = None) -> None:
        """Count one image, if the protocol admits it.

        An anomalous image whose defect vanishes at the evaluation size, or lies outside of the region of interest, is
        left out: nothing there says where it is. ``map_threshold`` decides on pixels.
        """
        truth, inside = marked.pixels, analysis.inside  # (h, w)
        if truth is not None and inside is not None:
            self._count_outside(sample, truth, inside)
        if truth is None or (self.protocol.pixel_pool == "truth_only" and not sample.is_anomalous):
            return
        if self.protocol.saturated_overlap:
            defects = [(defect.pixels, defect.saturation_px) for defect in marked.defects]
            of_image = count_saturated(analysis.anomaly_map, defects, inside)
            self.saturated.add(of_image, sample.kind, group=sample.group)
        anomaly_map, resized_truth = self._resized(analysis.anomaly_map, truth)
        counted = None if inside is None else self._resized(analysis.anomaly_map, inside)[1]
        if sample.is_anomalous and not (resized_truth if counted is None else resized_truth & counted).any():
            return
        self.n_images += 1
        image = count_pixels(anomaly_map, resized_truth, map_threshold, counted)
        self.pools.add(image, sample.kind, float(truth.mean()) if sample.is_anomalous else None, sample.group)
        for name in self.protocol.strata:
            if name in sample.strata:
                self.by_stratum[f"{name}={sample.strata[name]}"].add(image, sample.group)
        for scale in analysis.scales:
            from flawmap.detect.scoring import mean_map  # needs torch; an exported file has no maps of single sizes

            of_scale, flags = self._resized(mean_map([scale], *truth.shape), truth)
            which = slice(None) if counted is None else counted
            self.by_scale[scale.size_px].add(of_scale[which], flags[which])

    def _count_outside(self, sample: LabelledImage, truth: NDArray[np.bool_], inside: NDArray[np.bool_]) -> None:
        self.inside_pixels, self.all_pixels = self.inside_pixels + int(inside.sum()), self.all_pixels + inside.size
        self.defect_pixels += int(truth.sum())
        self.defect_pixels_outside += int((truth & ~inside).sum())
        self.images_outside += sample.is_anomalous and not (truth & inside).any()

    @property
    def outside_roi(self) -> OutsideRoi | None:
        """What does not count; None without a region of interest."""
        if not self.all_pixels:
            return None
        share = self.inside_pixels / self.all_pixels
        return OutsideRoi(share, self.defect_pixels, self.defect_pixels_outside, self.images_outside)

    def _resized(self, anomaly_map: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.evaluation_size_px is None:
            return anomaly_map, truth
        return at_evaluation_size(anomaly_map, truth, self.evaluation_size_px, self.evaluation_size_px)


def scores_and_labels(scored: Sequence[ScoredSample], score_name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One image score of every sample, and whether it is anomalous."""
    scores = np.array([s.scores[score_name] for s in scored], np.float64)
    return scores, np.array([s.sample.is_anomalous for s in scored], bool)


def block_of_all(scored: Sequence[ScoredSample], score_name: str, pixels: PooledPixels) -> Block:
    """The measures of all images together; with verdicts on them, their F1, too."""
    scores, labels = scores_and_labels(scored, score_name)
    generator = numpy_generator(BOOTSTRAP_SEED, "bootstrap")
    estimates = image_estimates(scores, labels, generator, groups=_groups(scored), verdicts=_verdicts(scored))
    saturated = pixels.saturated.everything()
    return _block(labels, estimates, _pixel_estimates(pixels.pools.everything(), saturated, "all"))


def blocks_by_kind(scored: Sequence[ScoredSample], score_name: str, pixels: PooledPixels) -> dict[str, Block]:
    """Each defect kind against all good images."""
    kinds = [s.sample.kind for s in scored]
    pools = pixels.pools.by_kind(), pixels.saturated.by_kind()
    return _blocks_of_anomalous(kinds, scored, score_name, *pools)


def blocks_by_size(scored: Sequence[ScoredSample], score_name: str, pixels: PooledPixels) -> dict[str, Block]:
    """Each class of defect size against all good images."""
    sizes = [None if s.anomalous_share is None else size_class(s.anomalous_share) for s in scored]
    return _blocks_of_anomalous(sizes, scored, score_name, pixels.pools.by_size(), {})


def blocks_by_stratum(scored: Sequence[ScoredSample], score_name: str, pixels: PooledPixels) -> dict[str, Block]:
    """The images of each stratum (sex, view) on their own, good and anomalous."""
    blocks = {}
    for name in pixels.protocol.strata:
        for value in sorted({s.sample.strata.get(name, "") for s in scored} - {""}):
            members, key = [s for s in scored if s.sample.strata.get(name) == value], f"{name}={value}"
            scores, labels = scores_and_labels(members, score_name)
            generator = numpy_generator(BOOTSTRAP_SEED, "bootstrap", key)
            estimates = image_estimates(scores, labels, generator, groups=_groups(members), verdicts=_verdicts(members))
            pool = pixels.by_stratum[key] if key in pixels.by_stratum else PixelPool()
            blocks[key] = _block(labels, estimates, _pixel_estimates(pool, PixelPool(), key))
    return blocks


def _blocks_of_anomalous(
    classes: Sequence[str | None],
    scored: Sequence[ScoredSample],
    score_name: str,
    pools: Mapping[str, PixelPool],
    saturated: Mapping[str, PixelPool],
) -> dict[str, Block]:
    scores, labels = scores_and_labels(scored, score_name)
    image = image_estimates_by(
        classes, scores, labels, BOOTSTRAP_SEED, groups=_groups(scored), verdicts=_verdicts(scored)
    )
    blocks = {}
    for name, estimates in image.items():
        chosen = ~labels | np.array([other == name for other in classes], bool)
        pixel = _pixel_estimates(pools.get(name, PixelPool()), saturated.get(name, PixelPool()), name)
        blocks[name] = _block(labels[chosen], estimates, pixel)
    return blocks


def _groups(scored: Sequence[ScoredSample]) -> list[str | None]:
    return [s.sample.group for s in scored]


def _verdicts(scored: Sequence[ScoredSample]) -> NDArray[np.bool_] | None:
    verdicts = [s.is_flagged for s in scored]
    return None if None in verdicts else np.array(verdicts, bool)


def _pixel_estimates(pool: PixelPool, saturated: PixelPool, name: str) -> dict[str, Estimate]:
    """Every pixel measure by its key; those of saturated overlaps only where images were counted for them."""
    found = pool.estimates(numpy_generator(BOOTSTRAP_SEED, "bootstrap", "pixel", name))
    estimates = {key: found[metric] for key, metric in PIXEL_KEYS.items() if metric in found}
    if saturated.n_regions:
        found = saturated.estimates(numpy_generator(BOOTSTRAP_SEED, "bootstrap", "saturated", name))
        estimates |= {key: found[metric] for key, metric in SATURATED_KEYS.items()}
    return estimates


def _block(labels: NDArray[np.bool_], image: Mapping[str, Estimate], pixel: Mapping[str, Estimate]) -> Block:
    pixel_measures = {key: _measure(estimate) for key, estimate in pixel.items()}
    return Block(
        n_good=int((~labels).sum()),
        n_anomalous=int(labels.sum()),
        image={key: _measure(image[name]) for key, name in IMAGE_KEYS.items() if name in image},
        pixel=pixel_measures if any(pixel_measures.values()) else None,
    )


def _measure(estimate: Estimate) -> Measure | None:
    return None if estimate.value is None else Measure(estimate.value, estimate.low, estimate.high)
