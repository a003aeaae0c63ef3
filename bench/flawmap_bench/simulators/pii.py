"""Poisson image interpolation (Tan, Hou, Day, Simpson, Rueckert and Kainz 2021): FPI on gradients instead of pixels.

The patch is a rectangle, on which sines diagonalise the discrete Poisson equation. It is therefore solved exactly and
without a sparse solver.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, UInt8

from flawmap.simulators.color_jitter import is_gray
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator, anomaly_inside
from flawmap_bench.simulators.fpi import FOREIGN_SHARE, draw_square


@dataclass(frozen=True)
class PoissonImageInterpolation(Simulator):
    """The gradients of both images are mixed in FPI's square; the image around it is the boundary condition.

    The soft target is the foreign share where a pixel changed.

    Attributes:
        core: the square's centre is uniform in this central share of each side.
    """

    core: float = 0.8
    needs: ClassVar = ("second",)

    def simulate(
        self, image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator, second: UInt8[np.ndarray, "h w 3"]
    ) -> SimulatedAnomaly:
        """Simulate one defect."""
        height, width = image.shape[:2]
        rows, columns = draw_square(height, width, generator, self.core)
        share = generator.uniform(*FOREIGN_SHARE)
        # the outermost pixels of the image stay as they are, so that every pixel solved for has four neighbours
        rows = slice(max(rows.start, 1), min(rows.stop, height - 1))
        columns = slice(max(columns.start, 1), min(columns.stop, width - 1))
        ring = slice(rows.start - 1, rows.stop + 1), slice(columns.start - 1, columns.stop + 1)
        channels = 1 if is_gray(image) and is_gray(second) else 3
        own, foreign = (pixels[ring][..., :channels].astype(np.float64) for pixels in (image, second))
        solved = interpolate_gradients(own, foreign, share)  # (rows, columns, channels)
        blended, footprint = image.copy(), np.zeros(image.shape[:2], bool)
        blended[rows, columns] = np.rint(solved.clip(image.min(), image.max())).astype(np.uint8)
        footprint[rows, columns] = True
        return anomaly_inside(image, blended, footprint, share * (blended != image).any(axis=2))


def interpolate_gradients(
    image: Float[np.ndarray, "n m c"], second: Float[np.ndarray, "n m c"], share: float
) -> Float[np.ndarray, "n-2 m-2 c"]:
    """The inner pixels whose differences come closest to the mixed ones; the outermost ones of ``image`` are fixed.

    The wanted difference of two neighbours is ``share`` times that in ``second``, or (1 - ``share``) times that in
    ``image`` where the latter is larger in absolute value.
    """
    # differences down the columns (n-1, m, c) and along the rows (n, m-1, c)
    down, right = (_mixed(np.diff(image, axis=axis), np.diff(second, axis=axis), share) for axis in (0, 1))
    wanted = down[:-1, 1:-1] - down[1:, 1:-1] + right[1:-1, :-1] - right[1:-1, 1:]  # (n-2, m-2, c)
    wanted[0] += image[0, 1:-1]
    wanted[-1] += image[-1, 1:-1]
    wanted[:, 0] += image[1:-1, 0]
    wanted[:, -1] += image[1:-1, -1]
    return solve_poisson(wanted)


def solve_poisson(wanted: Float[np.ndarray, "n m c"]) -> Float[np.ndarray, "n m c"]:
    """Solve 4 f(i, j) - f(i-1, j) - f(i+1, j) - f(i, j-1) - f(i, j+1) = wanted(i, j), f = 0 outside the rectangle.

    The eigenvectors are products of a sine along the rows and one along the columns.
    """
    (rows, row_values), (columns, column_values) = (_sines(extent) for extent in wanted.shape[:2])
    coefficients = rows @ np.moveaxis(wanted, 2, 0) @ columns  # (c, n, m)
    solved = rows @ (coefficients / (row_values[:, None] + column_values)) @ columns
    return np.moveaxis(solved, 0, 2)


def _mixed(
    own: Float[np.ndarray, "n m c"], foreign: Float[np.ndarray, "n m c"], share: float
) -> Float[np.ndarray, "n m c"]:
    """The weighted differences, of each pair the one that is larger in absolute value."""
    own, foreign = (1 - share) * own, share * foreign
    return np.where(np.abs(own) > np.abs(foreign), own, foreign)


def _sines(extent: int) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "n"]]:
    """Eigenvectors (orthonormal, symmetric) and eigenvalues of 2 f(i) - f(i-1) - f(i+1) with f = 0 at both ends."""
    angles = np.pi * np.arange(1, extent + 1) / (extent + 1)
    vectors = np.sqrt(2 / (extent + 1)) * np.sin(np.outer(np.arange(1, extent + 1), angles))
    return vectors, 2 - 2 * np.cos(angles)
