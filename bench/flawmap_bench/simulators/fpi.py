"""Foreign patch interpolation (Tan, Hou, Batten, Qiu and Kainz 2020): a square of another image is mixed in."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator, anomaly_inside

HALF_SIDE = (0.05, 0.2)  # of the shorter image side, upper end excluded
FOREIGN_SHARE = (0.05, 0.95)


@dataclass(frozen=True)
class ForeignPatchInterpolation(Simulator):
    """(1 - a) image + a second, in a square at the same place in both, with a ~ U(0.05, 0.95).

    The soft target is a where a pixel changed. The publication changes both images of a pair: for that, call it a
    second time with the two exchanged.

    Attributes:
        core: the square's centre is uniform in this central share of each side; 0.5 in the publication for brains.
    """

    core: float = 0.8
    needs: ClassVar = ("second",)

    def simulate(
        self, image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator, second: UInt8[np.ndarray, "h w 3"]
    ) -> SimulatedAnomaly:
        """Simulate one defect."""
        square = draw_square(image.shape[0], image.shape[1], generator, self.core)
        share = generator.uniform(*FOREIGN_SHARE)
        mixed, footprint = image.copy(), np.zeros(image.shape[:2], bool)
        mixed[square] = np.rint((1 - share) * image[square] + share * second[square]).astype(np.uint8)
        footprint[square] = True
        return anomaly_inside(image, mixed, footprint, share * (mixed != image).any(axis=2))


def draw_square(height: int, width: int, generator: np.random.Generator, core: float) -> tuple[slice, slice]:
    """Rows and columns of a random square, cropped to the image.

    Half its side is a uniform integer from 5 % to below 20 % of the shorter image side. Its centre is uniform in the
    central ``core`` of each side.
    """
    side = min(height, width)
    smallest = max(1, round(HALF_SIDE[0] * side))
    half = int(generator.integers(smallest, max(smallest + 1, round(HALF_SIDE[1] * side))))
    rows, columns = (_around(generator.uniform((1 - core) / 2, (1 + core) / 2), half, n) for n in (height, width))
    return rows, columns


def _around(center: float, half: int, extent: int) -> slice:
    middle = int(center * extent)
    return slice(max(0, middle - half), min(extent, middle + half))
