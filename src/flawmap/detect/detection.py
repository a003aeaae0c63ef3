"""The verdict on one image. Needs numpy alone: the machine that runs an exported model has no torch and no OpenCV."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.errors import UserError
from flawmap.metrics.defect_regions import number_regions
from flawmap.runs.calibration import Calibration

APPEARANCE_DISTANCE = "appearance_distance"  # among the image scores of models that remember good images
MAX_REGIONS = 50  # per image; the strongest are kept
DAMAGED_MODEL = "the model is damaged: copy it again, or train it again"


class NotScoredError(UserError):
    """The model gave an image a score or a map that is not finite, so there is no verdict on this image.

    Pixels are finite, so the fault lies in the model or in the machine, not in the image.
    """

    def at(self, image: object) -> "NotScoredError":
        """The same error with its place, for a caller that knows which image it was."""
        return NotScoredError(self.problem, str(image), self.remedy)


@dataclass(frozen=True)
class Region:
    """A connected part of the image above the map's threshold.

    Attributes:
        box_xyxy_px: left, top, right, bottom in pixels of the original image; right and bottom are exclusive.
        area_px: number of pixels.
        peak_score: highest map value inside.
    """

    box_xyxy_px: tuple[int, int, int, int]
    area_px: int
    peak_score: float


@dataclass(frozen=True)
class Detection:
    """The verdict on one image; one without finite scores and a finite map cannot be made.

    Attributes:
        score: higher = more anomalous; comparable between images of one detector.
        is_anomalous: whether ``score`` is above ``threshold``, see ``n_small_regions``.
        threshold: the detector's, from good images; None for an uncalibrated detector.
        anomaly_map: float32 (height, width) of the original image; higher = more evidence of a defect. All maps of a
            detector share the colour scale ``AnomalyDetector.map_scale``.
        regions: parts of the map above the map's threshold, highest peak first.
        scores: all image scores of the detector, by name; ``appearance_distance`` says how unlike any good image the
            whole image looks, in [0, 2], and decides nothing.
        inside: bool (height, width), the pixels in the region of interest; None: all. Outside, the map has the lowest
            value of those inside.
        n_small_regions: parts above the map's threshold that were left out because of a minimum area. Where no other is
            left, the image is not called anomalous.
    """

    score: float
    is_anomalous: bool
    threshold: float | None
    anomaly_map: np.ndarray = field(repr=False)
    regions: tuple[Region, ...]
    scores: dict[str, float]
    inside: np.ndarray | None = field(default=None, repr=False)
    n_small_regions: int = 0

    def __post_init__(self) -> None:
        """Raises: NotScoredError: a score or a value of the map is not finite."""
        refuse_not_finite({**self.scores, "score": self.score}, self.anomaly_map)

    @property
    def is_tolerated(self) -> bool:
        """Whether all that is above the map's threshold is smaller than the minimum area."""
        return self.n_small_regions > 0 and not self.regions

    def judged_again(self, image_score: str, calibration: Calibration, min_area_px: float) -> "Detection":
        """The verdict on the same scores and map by other thresholds; see :func:`judge`."""
        return judge(self.scores, image_score, self.anomaly_map, calibration, self.inside, min_area_px)

    def to_json(self) -> dict[str, Any]:
        """Everything except the map, as JSON-ready values; with a region of interest, the share of the image in it."""
        share = {} if self.inside is None else {"inside_share": float(self.inside.mean())}
        return share | {
            "score": self.score,
            "is_anomalous": self.is_anomalous,
            "threshold": self.threshold,
            "regions": [asdict(region) | {"box_xyxy_px": list(region.box_xyxy_px)} for region in self.regions],
            "n_small_regions": self.n_small_regions,
            "scores": self.scores,
        }


def judge(
    scores: Mapping[str, float],
    image_score: str,
    anomaly_map: np.ndarray,
    calibration: Calibration | None,
    inside: np.ndarray | None = None,
    min_area_px: float = 0.0,
) -> Detection:
    """The verdict from an image's scores and map.

    Args:
        scores: all image scores.
        image_score: the name of the one that decides.
        anomaly_map: float32 (h, w).
        calibration: thresholds; without them nothing is called anomalous.
        inside: bool (h, w), the pixels in the region of interest, in which alone regions lie; None: all.
        min_area_px: smaller regions are left out, see :class:`Detection`; 0 keeps all. An image above the threshold
            without any region is called anomalous whatever the minimum: nothing says that its defect is small.

    Raises:
        NotScoredError: a score or a value of the map is not finite.
    """
    score = scores[image_score]
    counted = anomaly_map if inside is None else np.where(inside, anomaly_map, np.float32(-np.inf))
    regions, n_small = _regions(counted, calibration.map_threshold, min_area_px) if calibration else ((), 0)
    is_tolerated = n_small > 0 and not regions
    return Detection(
        score=score,
        is_anomalous=calibration is not None and score > calibration.threshold and not is_tolerated,
        threshold=calibration.threshold if calibration else None,
        anomaly_map=anomaly_map,
        regions=regions,
        scores=dict(scores),
        inside=inside,
        n_small_regions=n_small,
    )


def refuse_not_finite(scores: Mapping[str, float], anomaly_map: np.ndarray) -> None:
    """Refuse what is no score: NaN is above no threshold, so that a damaged model would call every part good.

    Args:
        scores: all image scores, also those that do not decide: ``vote`` is finite even where the logits are not.
        anomaly_map: float32 (h, w).

    Raises:
        NotScoredError: a score or a value of the map is NaN or infinite.
    """
    for name, score in scores.items():
        if not isfinite(score):
            raise NotScoredError(f"the model gives no finite score ({name} is {score})", "", DAMAGED_MODEL)
    # the extremes show it without another array of the map's size: NaN is passed on by both
    if not (isfinite(anomaly_map.min()) and isfinite(anomaly_map.max())):
        n_bad = anomaly_map.size - int(np.isfinite(anomaly_map).sum())
        share = f"{n_bad:,} of {anomaly_map.size:,} values are not"
        raise NotScoredError(f"the model gives no finite anomaly map ({share})", "", DAMAGED_MODEL)


def find_regions(anomaly_map: NDArray[np.float32], threshold: float) -> tuple[Region, ...]:
    """Regions (8-neighbours) where the map is above ``threshold``, highest peak first; at most MAX_REGIONS.

    Args:
        anomaly_map: (h, w).
        threshold: a map value; a pixel at the threshold is outside.
    """
    return _regions(anomaly_map, threshold, 0.0)[0]


def _regions(anomaly_map: NDArray[np.float32], threshold: float, min_area_px: float) -> tuple[tuple[Region, ...], int]:
    """As :func:`find_regions`, without smaller ones; and how many these are."""
    above = anomaly_map > threshold
    numbers = number_regions(above)  # (n,), the region of each pixel above the threshold
    if numbers.size == 0:
        return (), 0
    rows, columns = np.nonzero(above)
    areas = np.bincount(numbers)
    low, high = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    left, right = np.full(areas.size, low), np.full(areas.size, high)
    top, bottom = np.full(areas.size, low), np.full(areas.size, high)
    peaks = np.full(areas.size, -np.inf, np.float32)
    np.minimum.at(left, numbers, columns)
    np.maximum.at(right, numbers, columns)
    np.minimum.at(top, numbers, rows)
    np.maximum.at(bottom, numbers, rows)
    np.maximum.at(peaks, numbers, anomaly_map[above])
    large = np.flatnonzero(areas >= min_area_px)
    strongest = large[np.argsort(-peaks[large], kind="stable")[:MAX_REGIONS]]
    regions = tuple(
        Region((int(left[i]), int(top[i]), int(right[i]) + 1, int(bottom[i]) + 1), int(areas[i]), float(peaks[i]))
        for i in strongest
    )
    return regions, int(areas.size - large.size)


def above_threshold(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    min_area_px: float = 0.0,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Where the map is above ``threshold``, bool (h, w), without regions of fewer pixels than ``min_area_px``.

    Only pixels in ``inside``, bool (h, w), count; None: all.
    """
    mask = anomaly_map > threshold if inside is None else (anomaly_map > threshold) & inside
    if min_area_px > 1:
        numbers = number_regions(mask)
        mask[mask] = np.bincount(numbers)[numbers] >= min_area_px
    return mask
