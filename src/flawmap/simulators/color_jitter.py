"""Brightness, contrast, saturation and hue, drawn from an explicit generator."""

import numpy as np
import torch
from jaxtyping import UInt8
from torchvision.transforms.v2 import functional as F


def color_jitter(
    image: UInt8[np.ndarray, "h w 3"],
    generator: np.random.Generator,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> UInt8[np.ndarray, "h w 3"]:
    """Jitter the colours of an image, in random order.

    Args:
        image: a gray one stays gray: saturation and hue would not change it and are skipped.
        generator: decides on the order and on all amounts.
        brightness: strength s; the factor is U(1 - s, 1 + s). The same holds for ``contrast`` and ``saturation``.
        contrast: see ``brightness``.
        saturation: see ``brightness``.
        hue: strength s; the shift is U(-s, s) of the colour circle.
    """
    factors = [generator.uniform(max(0.0, 1 - s), 1 + s) for s in (brightness, contrast, saturation)]
    amounts = (*factors, generator.uniform(-hue, hue))
    adjustments = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    num_used = 2 if is_gray(image) else 4  # of the adjustments
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (3, h, w)
    for number in generator.permutation(4):
        if number < num_used:
            pixels = adjustments[number](pixels, amounts[number])
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def is_gray(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether all three channels are equal."""
    return bool((image == image[..., :1]).all())
