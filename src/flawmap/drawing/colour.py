"""The one colour scale of anomaly maps: fixed per model, the threshold in its middle, high = hot.

A scale per image would make every good image look defective somewhere. The colours depend only on three numbers of
the model, and the middle colour always means "at the threshold".
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Lightness rises evenly from dark blue to pale yellow, so that the order survives gray printing and colour blindness.
# The hue goes from blue over magenta to yellow and changes fastest at the threshold, whose two sides look different.
_LIGHTNESS = (0.20, 0.96)
_HUE_STOPS = (0.0, 0.40, 0.50, 0.60, 1.0)
_HUE_DEG = (265.0, 305.0, 375.0, 405.0, 467.0)
_CHROMA_STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)
_CHROMA = (0.07, 0.15, 0.20, 0.16, 0.10)
_N_COLOURS = 256

# OKLab to linear sRGB: Björn Ottosson, "A perceptual color space for image processing" (2020).
_LAB_TO_CONE = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_CONE_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@cache
def colour_table() -> NDArray[np.uint8]:
    """The colours from position 0 (low) to 1 (high), uint8 (256, 3) sRGB, of rising perceived lightness."""
    position = np.linspace(0.0, 1.0, _N_COLOURS)
    lightness = np.interp(position, (0.0, 1.0), _LIGHTNESS)
    chroma = np.interp(position, _CHROMA_STOPS, _CHROMA)
    hue = np.deg2rad(np.interp(position, _HUE_STOPS, _HUE_DEG))
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    linear = ((lab @ _LAB_TO_CONE.T) ** 3) @ _CONE_TO_RGB.T
    linear = np.clip(linear, 0.0, 1.0)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table = np.round(255 * gamma).astype(np.uint8)
    table.flags.writeable = False  # it is shared by all callers
    return table


@dataclass(frozen=True)
class ColourScale:
    """Which map value gets which colour.

    Attributes:
        low: value of the coldest colour, which lower values get, too.
        threshold: value of the middle colour.
        high: value of the hottest colour, which higher values get, too.
    """

    low: float
    threshold: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.threshold, self.high]).all() and self.low <= self.threshold <= self.high):
            raise ValueError(
                "a colour scale needs finite low <= threshold <= high, "
                f"but has {self.low}, {self.threshold}, {self.high}"
            )

    def position(self, anomaly_map: ArrayLike) -> NDArray[np.float32]:
        """Position on the scale: 0 at ``low``, ½ at ``threshold``, 1 at ``high``; linear between, clipped outside.

        Args:
            anomaly_map: any shape, finite.

        Returns:
            float32 of the same shape, in [0, 1].
        """
        values = np.asarray(anomaly_map, dtype=np.float32)
        below = _share(values, self.low, self.threshold)
        above = _share(values, self.threshold, self.high)
        return np.float32(0.5) * (below + above)

    def colours(self, anomaly_map: ArrayLike) -> NDArray[np.uint8]:
        """Colours of a map: any shape S to uint8 (*S, 3) sRGB."""
        index = np.round(self.position(anomaly_map) * (_N_COLOURS - 1)).astype(np.uint8)
        return colour_table()[index]


def _share(values: NDArray[np.float32], start: float, end: float) -> NDArray[np.float32]:
    """Where each value lies between start and end, in [0, 1]; a step where start equals end."""
    if end <= start:
        return (values > start).astype(np.float32)
    with np.errstate(over="ignore"):  # a value far outside is clipped anyway
        return np.clip((values - np.float32(start)) / np.float32(end - start), 0.0, 1.0).astype(np.float32)
