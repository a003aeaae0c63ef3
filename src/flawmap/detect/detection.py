"""What the detector says of one image. Needs numpy alone."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


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
    """The verdict on one image.

    Attributes:
        score: higher = more anomalous; comparable between images of one detector.
        is_anomalous: whether ``score`` is above ``threshold``.
        threshold: the detector's, from held-out normal images; None for an uncalibrated detector.
        anomaly_map: float32 (height, width) of the original image, on one scale for all images: the evidence for an
            anomaly. ``AnomalyDetector.map_scale`` has the ends of its colour scale.
        regions: parts of the map above the map's threshold, largest peak first.
        scores: every image score the scorer knows, by name.
    """

    score: float
    is_anomalous: bool
    threshold: float | None
    anomaly_map: np.ndarray = field(repr=False)
    regions: tuple[Region, ...]
    scores: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """All but the map, as JSON-ready values."""
        return {
            "score": self.score,
            "is_anomalous": self.is_anomalous,
            "threshold": self.threshold,
            "regions": [
                {"box_xyxy_px": list(r.box_xyxy_px), "area_px": r.area_px, "peak_score": r.peak_score}
                for r in self.regions
            ],
            "scores": self.scores,
        }
