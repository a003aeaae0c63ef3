"""Connected regions of an anomaly map."""

import cv2
import numpy as np
from jaxtyping import Float

from flawmap.detect.detection import Region

MAX_REGIONS = 50  # of one image; the strongest are kept


def find_regions(anomaly_map: Float[np.ndarray, "h w"], threshold: float) -> tuple[Region, ...]:
    """Regions (8-neighbours) where the map is above ``threshold``, highest peak first."""
    above = (anomaly_map > threshold).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    regions = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in boxes[label])
        inside = labels[y : y + height, x : x + width] == label
        peak = float(anomaly_map[y : y + height, x : x + width][inside].max())
        regions.append(Region((x, y, x + width, y + height), area, peak))
    return tuple(sorted(regions, key=lambda region: -region.peak_score)[:MAX_REGIONS])
