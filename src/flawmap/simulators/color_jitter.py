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
    """Jitter colours in random order: factors U(1 - s, 1 + s), hue shift U(-s, s) of the colour circle.

    A gray image stays gray: saturation and hue do nothing to it, and are skipped.
    """
    factors = {
        name: generator.uniform(max(0.0, 1 - s), 1 + s)
        for name, s in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation))
    }
    shift = generator.uniform(-hue, hue)
    order = generator.permutation(4)
    has_colour = not is_gray(image)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for step in order:
        if step == 0:
            pixels = F.adjust_brightness(pixels, factors["brightness"])
        elif step == 1:
            pixels = F.adjust_contrast(pixels, factors["contrast"])
        elif step == 2 and has_colour:
            pixels = F.adjust_saturation(pixels, factors["saturation"])
        elif step == 3 and has_colour:
            pixels = F.adjust_hue(pixels, shift)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def is_gray(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether all three channels are equal."""
    return bool((image == image[..., :1]).all())
