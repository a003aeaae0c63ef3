"""Maps as gray PNG pictures that a page can colour; the scale is the model's, never the picture's own. And images."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.runs.calibration import MapScale

ROWS_AT_ONCE = 64


def scale_picture(anomaly_map: NDArray[np.float32], scale: MapScale) -> str:
    """Place on the model's colour scale, 0 = ``low``, 255 = ``high``, the threshold half-way: PNG in base64.

    Args:
        anomaly_map: (h, w).
        scale: ends of the scale; what is outside gets their value.
    """
    places = anomaly_map - np.float32(scale.low)  # then in place: a map may have fifty million pixels
    places *= np.float32(255 / (scale.high - scale.low))
    np.clip(places, 0, 255, out=places)
    return png_text(np.rint(places, out=places).astype(np.uint8))


def attention_picture(attention: NDArray[np.float32]) -> str:
    """From 0 to the picture's highest value, on the patch grid (r, c): PNG in base64. It is no measure of anomaly."""
    highest = max(float(attention.max()), 1e-12)
    return png_text(np.rint(np.clip(attention / highest, 0, 1) * 255).astype(np.uint8))


def deep_picture(values: NDArray[np.float32], low: float, high: float) -> str:
    """More than 8 bits for a page: red and green are the two bytes of the place between the ends. PNG in base64.

    Args:
        values: (h, w), between ``low`` and ``high``.
        low, high: values at place 0 and at place 65535; ``high`` is above ``low``.
    """
    pixels = np.zeros((*values.shape, 3), np.uint8)
    for start in range(0, len(values), ROWS_AT_ONCE):
        rows = values[start : start + ROWS_AT_ONCE].astype(np.float64)
        places = np.rint((rows - low) / (high - low) * 65535).astype(np.uint16)
        part = pixels[start : start + ROWS_AT_ONCE]
        part[..., 0], part[..., 1] = places >> 8, places & 255
    return png_text(pixels)


def png_text(pixels: NDArray[np.uint8]) -> str:
    """PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
