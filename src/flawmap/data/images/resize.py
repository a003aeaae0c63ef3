"""The one image resize of flawmap: training, detection and export all use it, so that none differs from another."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize uint8 (H, W, 3) to (height, width, 3): Pillow's bilinear, which antialiases when it shrinks.

    Chosen because it needs only Pillow, which training, detection and every runtime have.
    """
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
