"""Images that say where each of their pixels came from, for the tests of what moves pixels."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def coordinate_image() -> Callable[..., np.ndarray]:
    """Makes uint8 (height, width, 3) whose red is ``step`` times the column and whose green ``step`` times the row.

    Both are linear, so that linear interpolation keeps them exact up to rounding.
    """

    def make(height: int, width: int, step: int = 1) -> np.ndarray:
        assert step * (max(height, width) - 1) < 256
        rows, columns = np.mgrid[:height, :width]
        return np.stack([step * columns, step * rows, np.full_like(rows, 128)], axis=-1).astype(np.uint8)

    return make


@pytest.fixture
def affine_fit() -> Callable[..., np.ndarray]:
    """Fits (2, 3) to ``[column, row, 1] -> [red, green] / step`` over the pixels of ``where``, by least squares."""

    def fit(image: np.ndarray, where: np.ndarray, step: int = 1) -> np.ndarray:
        rows, columns = where.nonzero()
        output = np.stack([columns, rows, np.ones_like(rows)], axis=1)
        return np.linalg.lstsq(output, image[where][:, :2] / step, rcond=None)[0].T

    return fit
