"""From a network's map to one at the image's own resolution."""

import cv2
import numpy as np
from jaxtyping import Float
from torch import Tensor


def as_map(values: Tensor) -> Float[np.ndarray, "r c"]:
    """A tensor (r, c) on any device as float32."""
    return values.detach().float().cpu().numpy()


def resized_map(values: Float[np.ndarray, "r c"], height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Bilinear; no value leaves the range of the given ones."""
    return cv2.resize(np.ascontiguousarray(values, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def smoothed_map(values: Float[np.ndarray, "r c"], sigma_px: float) -> Float[np.ndarray, "r c"]:
    """Gaussian smoothing with reflected borders, like scipy's ``gaussian_filter`` (4 sigma to each side)."""
    side = 2 * int(4 * sigma_px + 0.5) + 1
    return cv2.GaussianBlur(
        np.ascontiguousarray(values, np.float32), (side, side), sigma_px, borderType=cv2.BORDER_REFLECT
    )
