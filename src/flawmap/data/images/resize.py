"""The only image resize in flawmap: training, detection and export all use it, so they see the same pixels."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize uint8 (H, W, 3) to (height, width, 3), bilinear and antialiased when it shrinks.

    Pillow does it, because training, detection and every runtime have Pillow.
    """
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
