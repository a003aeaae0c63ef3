"""Foreign patch interpolation (Tan, Hou, Batten, Qiu and Kainz 2020): a square of another image, mixed in."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, anomaly_inside

HALF_SIDE = (0.05, 0.2)  # of the shorter image side, upper end excluded
FOREIGN_SHARE = (0.05, 0.95)


@dataclass(frozen=True)
class ForeignPatchInterpolation:
    """(1 - a) image + a second in a square at the same place of both, a ~ U(0.05, 0.95).

    The soft target is a where a pixel changed. The publication uses both images of a pair: call it a second time
    with the two exchanged.

    Attributes:
        core: centres are uniform in this central share of each side; 0.5 was used for brains.
    """

    core: float = 0.8
    needs_attention: ClassVar[bool] = False
    needs_second: ClassVar[bool] = True

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: object = None,
        second: UInt8[np.ndarray, "h w 3"] | None = None,
    ) -> SimulatedAnomaly:
        """Simulate one anomaly; see :class:`flawmap.simulators.by_name.Simulator`."""
        if second is None:
            raise ValueError("foreign patch interpolation needs a second image")
        square = draw_square(image.shape[0], image.shape[1], generator, self.core)
        share = generator.uniform(*FOREIGN_SHARE)
        mixed, footprint = image.copy(), np.zeros(image.shape[:2], bool)
        mixed[square] = np.rint((1 - share) * image[square] + share * second[square]).astype(np.uint8)
        footprint[square] = True
        return anomaly_inside(image, mixed, footprint, share * (mixed != image).any(axis=2))


def draw_square(height: int, width: int, generator: np.random.Generator, core: float) -> tuple[slice, slice]:
    """Rows and columns of a random square, cut to the image.

    Half of its side is a uniform integer from 5 % to below 20 % of the shorter image side; its centre is uniform in
    the central ``core`` of each side.
    """
    side = min(height, width)
    smallest = max(1, round(HALF_SIDE[0] * side))
    half = int(generator.integers(smallest, max(smallest + 1, round(HALF_SIDE[1] * side))))
    rows, columns = (_around(generator.uniform((1 - core) / 2, (1 + core) / 2), half, n) for n in (height, width))
    return rows, columns


def _around(center: float, half: int, extent: int) -> slice:
    middle = int(center * extent)
    return slice(max(0, middle - half), min(extent, middle + half))
