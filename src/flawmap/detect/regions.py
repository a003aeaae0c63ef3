"""Connected regions of an anomaly map, in numpy alone: the line PC that runs an exported model has no OpenCV."""

import numpy as np
from numpy.typing import NDArray

from flawmap.detect.detection import Region
from flawmap.metrics.defect_regions import number_regions

MAX_REGIONS = 50  # of one image; the strongest are kept


def find_regions(anomaly_map: NDArray[np.float32], threshold: float) -> tuple[Region, ...]:
    """Regions (8-neighbours) where the map is above ``threshold``, highest peak first; at most MAX_REGIONS.

    Args:
        anomaly_map: (h, w).
        threshold: of map values; a pixel at the threshold is outside.
    """
    above = anomaly_map > threshold
    numbers = number_regions(above)
    if numbers.size == 0:
        return ()
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
    strongest = np.argsort(-peaks, kind="stable")[:MAX_REGIONS]
    return tuple(
        Region(
            (int(left[one]), int(top[one]), int(right[one]) + 1, int(bottom[one]) + 1),
            int(areas[one]),
            float(peaks[one]),
        )
        for one in strongest
    )
