"""Connected regions of a ground-truth mask, in numpy alone."""

import numpy as np
from numpy.typing import NDArray


def number_regions(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Which connected region (8 neighbours) each anomalous pixel belongs to.

    Rows are cut into runs of True; runs that touch, also at a corner, are joined.

    Args:
        mask: (h, w), True = anomalous.

    Returns:
        one number for each True pixel of ``mask``, in row-major order as ``image[mask]`` is: 0, 1, ... in the order in
        which regions begin. Empty for an empty mask.
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
    # Moved down by a row, a run touches those that begin at its end or before and end at its start or after.
    first = np.searchsorted(ends, starts + stride, side="left")
    n_touching = np.searchsorted(starts, ends + stride, side="right") - first
    upper = np.repeat(np.arange(starts.size), n_touching)
    lower = np.arange(upper.size) - np.repeat(np.cumsum(n_touching) - n_touching - first, n_touching)
    roots = _join(starts.size, upper, lower)
    return np.repeat(np.unique(roots, return_inverse=True)[1], ends - starts).astype(np.int64)


def _join(n: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lowest of the n nodes that each node is connected with, given edges between ``one`` and ``other``."""
    roots = np.arange(n)
    while True:
        a, b = roots[one], roots[other]
        if np.array_equal(a, b):
            return roots
        np.minimum.at(roots, np.maximum(a, b), np.minimum(a, b))  # a root hangs itself under a lower one
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
