"""Maps and masks at a fixed size, for numbers that compare with papers which evaluate at 224 or 256 px."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def at_evaluation_size(
    anomaly_map: NDArray[np.floating], truth: NDArray[np.bool_], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A map and its ground truth at another size.

    Pillow resizes both: the map bilinearly, with a triangle as wide as the step where it shrinks, like
    :func:`flawmap.data.images.resize.resize_image`; the mask by the nearest pixel. A defect smaller than the step can
    vanish from the mask. Such an image is then a defective one without a mask, and must not enter a pixel pool.

    Args:
        anomaly_map: (h, w), any range.
        truth: (h, w), True = anomalous.
        height: of the result, in px.
        width: of the result, in px.

    Returns:
        the map as float32 and the mask as bool, both (height, width).

    Raises:
        ValueError: map and mask differ in shape.
    """
    if anomaly_map.shape != truth.shape:
        raise ValueError(f"the map has shape {anomaly_map.shape}, but its ground truth {truth.shape}")
    size = (width, height)
    resized = Image.fromarray(anomaly_map.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)  # mode F
    mask = Image.fromarray(truth.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return np.array(resized), np.array(mask, np.bool_)
