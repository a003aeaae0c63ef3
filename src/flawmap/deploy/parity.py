"""Whether an exported file answers as the detector does, on real images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.data.image_files import read_image
from flawmap.deploy.runtime import ExportedModel
from flawmap.detect.detector import AnomalyDetector
from flawmap.metrics.ranking import auroc

MAX_SCORE_DIFFERENCE = 1e-3
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
    """

    n: int
    max_score_difference: float
    max_map_difference: float
    n_verdicts_changed: int
    auroc: tuple[float, float] | None

    @property
    def is_good(self) -> bool:
        """Scores agree to 1e-3 and AUROC to a tenth of a point. A NaN is no agreement."""
        auroc_agrees = self.auroc is None or abs(self.auroc[0] - self.auroc[1]) <= MAX_AUROC_DIFFERENCE
        return self.max_score_difference <= MAX_SCORE_DIFFERENCE and auroc_agrees


def compare(
    detector: AnomalyDetector,
    exported: ExportedModel,
    images: Sequence[CheckImage],
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Score every image with both; only one image is in memory at a time.

    Raises:
        UserError: an image cannot be read.
    """
    scores, map_difference, changed = [], 0.0, 0
    for number, image in enumerate(images):
        pixels = read_image(image.path)
        native, other = detector.predict_one(pixels), exported.predict(pixels)
        scores.append((native.score, other.score))
        difference = float(np.abs(native.anomaly_map - other.anomaly_map).max())
        map_difference = float(np.maximum(map_difference, difference))  # keeps a NaN, which max() may lose
        changed += native.is_anomalous != other.is_anomalous
        if progress is not None:
            progress(number + 1, len(images))
    pairs = np.array(scores, np.float64)
    return Parity(
        n=len(images),
        max_score_difference=float(np.abs(pairs[:, 0] - pairs[:, 1]).max()),
        max_map_difference=map_difference,
        n_verdicts_changed=changed,
        auroc=_both_aurocs([image.is_anomalous for image in images], pairs),
    )


def _both_aurocs(labels: Sequence[bool | None], pairs: NDArray[np.float64]) -> tuple[float, float] | None:
    if None in labels or not np.isfinite(pairs).all():
        return None
    native, other = (auroc(pairs[:, column], np.array(labels, bool)) for column in (0, 1))
    return None if native is None or other is None else (native, other)
