"""What every anomaly simulator returns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8


@dataclass(frozen=True)
class SimulatedAnomaly:
    """A simulated anomaly.

    Attributes:
        image: the image with the anomaly; equal to the input outside ``footprint``.
        footprint: True where something was pasted: the segmentation target.
        soft_target: the simulator's own label per pixel in [0, 1]; the footprint itself for hard pasting.
        label: 1, or 0 where nothing changed.
    """

    image: UInt8[np.ndarray, "h w 3"]
    footprint: Bool[np.ndarray, "h w"]
    soft_target: Float[np.ndarray, "h w"]
    label: int
