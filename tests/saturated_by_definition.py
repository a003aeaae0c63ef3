"""AU-sPRO by its definition, slowly: the tests' independent implementation."""

from itertools import pairwise

import numpy as np

Marked = tuple[np.ndarray, list[tuple[np.ndarray, int]]]  # a map, and its defects with their saturation areas


def by_definition(images: list[Marked], limit: float) -> float:
    """The mean of min(found / saturation, 1) over defects, at every threshold; over the rate of false pixels."""
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([anomaly_map.ravel() for anomaly_map, _ in images]))[::-1]:
        false, normal, overlaps = 0, 0, []
        for anomaly_map, defects in images:
            above = anomaly_map >= threshold
            anywhere = np.any([pixels for pixels, _ in defects], axis=0) if defects else np.zeros_like(above)
            false, normal = false + (above & ~anywhere).sum(), normal + (~anywhere).sum()
            overlaps += [min((above & pixels).sum() / saturation, 1) for pixels, saturation in defects]
        points.append((false / normal, float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        end = min(x1, limit)
        if end > x0:
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / limit
