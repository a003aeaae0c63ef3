"""Whether an exported file answers as the detector does, on real images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import read_image
from flawmap.deploy.runtime import ExportedModel
from flawmap.detect.detection import Detection
from flawmap.detect.detector import AnomalyDetector
from flawmap.metrics.ranking import auroc

MAX_SCORE_DIFFERENCE = 1e-3
MAX_MAP_DIFFERENCE = 0.05  # of the colour scale's range: where two normal tokens are as near, runtimes choose either
MAX_AUROC_DIFFERENCE = 1e-3  # a tenth of a point


@dataclass(frozen=True)
class CheckImage:
    """An image to compare on, and whether it is anomalous where that is known."""

    path: Path
    is_anomalous: bool | None = None


@dataclass(frozen=True)
class Parity:
    """Detector against exported file.

    Attributes:
        n: number of images.
        max_score_difference: over all images, of the score that decides.
        max_map_difference: over all pixels of all images.
        n_verdicts_changed: images that are anomalous for one of the two only.
        auroc: of the detector and of the file; None where the images are not labelled, or all alike.
        max_logit_difference: over all images, of the mean logit, which moves where votes hide it.
        map_range: from the lower to the upper end of the detector's colour scale.
    """

    n: int
    max_score_difference: float
    max_map_difference: float
    n_verdicts_changed: int
    auroc: tuple[float, float] | None
    max_logit_difference: float = 0.0
    map_range: float = float("inf")

    @property
    def is_good(self) -> bool:
        """Scores agree to 1e-3, AUROC to a tenth of a point, maps to 5 % of their range. A NaN is no agreement."""
        auroc_agrees = self.auroc is None or abs(self.auroc[0] - self.auroc[1]) <= MAX_AUROC_DIFFERENCE
        scores_agree = max(self.max_score_difference, self.max_logit_difference) <= MAX_SCORE_DIFFERENCE
        is_number = not np.isnan([self.max_score_difference, self.max_logit_difference]).any()
        maps_agree = self.max_map_difference <= MAX_MAP_DIFFERENCE * self.map_range
        return is_number and scores_agree and maps_agree and auroc_agrees


def compare(
    detector: AnomalyDetector,
    exported: ExportedModel,
    images: Sequence[CheckImage],
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """As :func:`compare_all`, with one file."""
    return compare_all(detector, {"": exported}, images, progress)[""]


def compare_all(
    detector: AnomalyDetector,
    files: Mapping[str, ExportedModel],
    images: Sequence[CheckImage],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Parity]:
    """Score every image with the detector and with each file; only one image is in memory at a time.

    Raises:
        UserError: an image cannot be read.
    """
    differences: dict[str, list[_Difference]] = {label: [] for label in files}
    for number, image in enumerate(images):
        pixels = read_image(image.path)
        native = detector.predict_one(pixels)
        for label, exported in files.items():
            differences[label].append(_Difference.between(native, exported.predict(pixels)))
        if progress is not None:
            progress(number + 1, len(images))
    labels = [image.is_anomalous for image in images]
    scale = detector.map_scale
    return {label: _summary(found, labels, scale.high - scale.low) for label, found in differences.items()}


@dataclass(frozen=True)
class _Difference:
    """Of one image: both scores, how far the mean logits and the maps are apart, whether the verdict changed."""

    scores: tuple[float, float]
    of_logit: float
    of_map: float
    of_verdict: bool

    @classmethod
    def between(cls, native: Detection, other: Detection) -> "_Difference":
        of_map = float(np.abs(native.anomaly_map - other.anomaly_map).max())
        of_logit = abs(native.scores["mean_logit"] - other.scores["mean_logit"])
        return cls((native.score, other.score), of_logit, of_map, native.is_anomalous != other.is_anomalous)


def _summary(found: Sequence[_Difference], labels: Sequence[bool | None], map_range: float) -> Parity:
    pairs = np.array([one.scores for one in found], np.float64)
    return Parity(
        n=len(found),
        max_score_difference=float(np.abs(pairs[:, 0] - pairs[:, 1]).max()),
        max_map_difference=float(np.max([one.of_map for one in found])),  # a NaN stays, which max() may lose
        n_verdicts_changed=sum(one.of_verdict for one in found),
        auroc=_both_aurocs(labels, pairs),
        max_logit_difference=float(np.max([one.of_logit for one in found])),
        map_range=map_range,
    )


def _both_aurocs(labels: Sequence[bool | None], pairs: NDArray[np.float64]) -> tuple[float, float] | None:
    if None in labels or not np.isfinite(pairs).all():
        return None
    native, other = (auroc(pairs[:, column], np.array(labels, bool)) for column in (0, 1))
    return None if native is None or other is None else (native, other)
