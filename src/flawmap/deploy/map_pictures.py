"""Maps as gray PNG pictures that a page can colour; the scale is the model's, never the picture's own."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.detect.calibration import MapScale


def scale_picture(anomaly_map: NDArray[np.float32], scale: MapScale) -> str:
    """Place on the model's colour scale, 0 = ``low``, 255 = ``high``, the threshold half-way: PNG in base64.

    Args:
        anomaly_map: (h, w).
        scale: ends of the scale; what is outside gets their value.
    """
    position = (anomaly_map - np.float32(scale.low)) / np.float32(scale.high - scale.low)
    return _png(np.rint(np.clip(position, 0, 1) * 255).astype(np.uint8))


def attention_picture(attention: NDArray[np.float32]) -> str:
    """From 0 to the picture's highest value, on the patch grid (r, c): PNG in base64. It is no measure of anomaly."""
    highest = max(float(attention.max()), 1e-12)
    return _png(np.rint(np.clip(attention / highest, 0, 1) * 255).astype(np.uint8))


def _png(gray: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
