"""What every anomaly simulator returns, and the rule that each of them keeps."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from flawmap.simulators.blending import paste


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


def anomaly_inside(
    image: UInt8[np.ndarray, "h w 3"],
    patched: UInt8[np.ndarray, "h w 3"],
    footprint: Bool[np.ndarray, "h w"],
    soft_target: Float[np.ndarray, "h w"] | None = None,
) -> SimulatedAnomaly:
    """What every simulator keeps to: pixels change inside the footprint only, and where none does, nothing is one.

    Args:
        image: the normal image.
        patched: the image with the anomaly; pixels outside ``footprint`` are not used.
        footprint: True where something was pasted.
        soft_target: the simulator's own label in [0, 1], not used outside the footprint; None: the footprint.

    Returns:
        the anomaly with label 1; or the image as it was with label 0, an empty footprint and an empty soft target
        where ``patched`` equals ``image`` all over the footprint.
    """
    result = paste(image, patched, footprint)
    if (result == image).all():
        footprint = np.zeros_like(footprint)
    soft = footprint if soft_target is None else np.where(footprint, soft_target, 0)
    return SimulatedAnomaly(result, footprint, soft.astype(np.float32), int(footprint.any()))
