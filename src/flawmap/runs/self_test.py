"""The self-test of a model: the score that it must give for a made-up image, wherever it runs. Needs numpy alone.

A checksum tells whether a model's bytes are those that were written. This tells whether they are computed with as they
were then: another processor, runtime or library must give the same score.
"""

import hashlib
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from flawmap.runs.calibration import MapScale

HEIGHT_PX, WIDTH_PX = 64, 97  # of no model's squares, so that the resize is tested as well
SCORE = "mean_logit"  # every model has it; the votes are no test, because rounding can move one where a logit is near 0
RELATIVE_TOLERANCE = 1e-3  # of the score; other instruction sets and thread counts were seen to change it by 1e-6
MAP_TOLERANCE = 0.05  # of the map's scale: where two tokens in memory are equally near, processors differ


@dataclass(frozen=True)
class SelfTest:
    """What a model gives for :func:`self_test_image`.

    Attributes:
        score: the image score ``mean_logit``.
        map_peak: the highest value of the anomaly map.
        tolerance: by how much the score may differ; above 0.
        map_tolerance: by how much the peak may differ; above 0.
    """

    score: float
    map_peak: float
    tolerance: float
    map_tolerance: float

    def __post_init__(self) -> None:
        """Raises: ValueError: a number cannot be compared with."""
        numbers = self.score, self.map_peak, self.tolerance, self.map_tolerance
        if not all(map(isfinite, numbers)) or min(self.tolerance, self.map_tolerance) <= 0:
            raise ValueError("a score or a tolerance of the self-test is not a usable number")

    @classmethod
    def of(
        cls,
        score: float,
        map_peak: float,
        map_scale: MapScale,
        score_differs_by: float = 0.0,
        map_differs_by: float = 0.0,
    ) -> "SelfTest":
        """The self-test of a model that gave these values.

        Args:
            score: finite.
            map_peak: finite.
            map_scale: of the model's maps.
            score_differs_by: the most that two runtimes were found to differ by; the tolerance is at least that.
            map_differs_by: the same for maps.
        """
        return cls(
            score,
            map_peak,
            tolerance=max(RELATIVE_TOLERANCE * max(1.0, abs(score)), score_differs_by),
            map_tolerance=max(MAP_TOLERANCE * max(map_scale.high - map_scale.low, abs(map_peak)), map_differs_by),
        )

    def is_passed_by(self, score: float, map_peak: float) -> bool:
        """Whether both values are close enough; NaN never is."""
        return abs(score - self.score) <= self.tolerance and abs(map_peak - self.map_peak) <= self.map_tolerance


def self_test_image() -> NDArray[np.uint8]:
    """A gradient with a grid and grain, (64, 97, 3): the same bytes on every machine and with every library.

    The grain is an extendable hash, because numpy does not promise that a seed's numbers stay the same.
    """
    size = HEIGHT_PX * WIDTH_PX * 3
    grain = np.frombuffer(hashlib.shake_256(b"flawmap self-test").digest(size), np.uint8)
    rows, columns, channels = np.indices((HEIGHT_PX, WIDTH_PX, 3))
    gradient = 40 + rows + columns + 8 * channels  # 40 to 215
    grid = 24 * ((rows // 8 + columns // 8) % 2)
    return (gradient + grid - 16 + grain.reshape(HEIGHT_PX, WIDTH_PX, 3) // 8).astype(np.uint8)
