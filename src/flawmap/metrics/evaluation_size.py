"""Maps and masks at a fixed size, for numbers that compare with papers which evaluate at 224 or 256 px."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def at_evaluation_size(
    anomaly_map: NDArray[np.floating], truth: NDArray[np.bool_], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A map and its ground truth at another size.

    The map is resized as :func:`flawmap.data.images.resize.resize_image` resizes images (bilinear; a triangle as wide
    as the step where it shrinks), the mask by the nearest pixel. A defect smaller than the step can vanish: then
    no truth is left, and as an anomalous image without a mask it must not enter a pixel pool.

    Args:
        anomaly_map: (h, w), any range.
        truth: (h, w), True = anomalous.
        height: pixels, of the result.
        width: pixels, of the result.

    Returns:
        the map as float32 and the mask as bool, both (height, width).

    Raises:
        ValueError: when map and mask differ in shape.
    """
    if anomaly_map.shape != truth.shape:
        raise ValueError(f"the map has shape {anomaly_map.shape}, but its ground truth {truth.shape}")
    h, w = truth.shape
    if (h, w) == (height, width):
        return anomaly_map.astype(np.float32), truth
    resized = _triangles(h, height) @ anomaly_map.astype(np.float64) @ _triangles(w, width).T
    return resized.astype(np.float32), truth[np.ix_(_nearest(h, height), _nearest(w, width))]


@lru_cache(maxsize=16)
def _triangles(n_from: int, n_to: int) -> NDArray[np.float64]:
    """Weights (n_to, n_from) of each old row in each new one; every new row's add up to 1."""
    step = n_from / n_to
    centres = (np.arange(n_to)[:, None] + 0.5) * step
    distances = np.abs(np.arange(n_from) + 0.5 - centres) / max(step, 1)
    weights = np.maximum(1 - distances, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def _nearest(n_from: int, n_to: int) -> NDArray[np.intp]:
    """The old row that holds the centre of each new one."""
    return ((2 * np.arange(n_to) + 1) * n_from) // (2 * n_to)
