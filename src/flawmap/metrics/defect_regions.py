"""Connected regions of a mask, in numpy alone."""

import numpy as np
from numpy.typing import NDArray


def number_regions(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of the connected region (8 neighbours) that each anomalous pixel belongs to.

    Rows are cut into runs of True. Runs that touch, if only at a corner, are joined.

    Args:
        mask: (h, w), True = anomalous.

    Returns:
        a number for each True pixel of ``mask``, in row-major order like ``image[mask]``. Regions are numbered
        0, 1, ... in the order in which they begin. Empty for an empty mask.
    """
    places = np.flatnonzero(mask)
    if places.size == 0:
        return np.zeros(0, np.int64)
    mask = mask[places[0] // mask.shape[1] : places[-1] // mask.shape[1] + 1]  # most rows have no defect
    height, width = mask.shape
    stride = width + 1  # a False column after the last ends every run within its row
    flat = np.zeros(height * stride + 1, np.int8)  # and one before the first begins the first run
    flat[1:].reshape(height, stride)[:, :width] = mask
    changes = np.diff(flat)
    starts, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)  # ends are one past the last pixel
    # a run touches those of the next row that begin at its end or before and end at its start or after
    first = np.searchsorted(ends, starts + stride, side="left")
    n_touching = np.searchsorted(starts, ends + stride, side="right") - first
    upper = np.repeat(np.arange(starts.size), n_touching)
    lower = np.arange(upper.size) - np.repeat(np.cumsum(n_touching) - n_touching - first, n_touching)
    roots = _join(starts.size, upper, lower)
    return np.repeat(np.unique(roots, return_inverse=True)[1], ends - starts).astype(np.int64)


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


def _join(n: int, upper: NDArray[np.int64], lower: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lowest of n nodes that each node is connected with, given edges between ``upper`` and ``lower``."""
    roots = np.arange(n)
    while True:
        a, b = roots[upper], roots[lower]
        if np.array_equal(a, b):
            return roots
        np.minimum.at(roots, np.maximum(a, b), np.minimum(a, b))  # the higher root gets the lower one as its root
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
