"""An anomaly map laid over its image, and the outline of a ground-truth mask."""

import numpy as np
from numpy.typing import NDArray

from flawmap.drawing.colour import ColourScale

TRUTH_GREEN = (34, 197, 94)  # not on the colour scale, so that an outline is not taken for a map value
DIMMED = 0.4  # of the brightness, outside of a region of interest
_POSITIONS = (0.0, 0.25, 0.5, 1.0)  # of the colour scale; 0.5 is the threshold
_OPACITIES = (0.0, 0.0, 0.5, 0.8)
_PIXELS_AT_ONCE = 1 << 18  # mixed in float64, so that a large image needs little memory beside its result


def overlay(image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], scale: ColourScale) -> NDArray[np.uint8]:
    """The image, tinted where the map is high; normal places stay as they are.

    The opacity of the colour grows with the map: 0 up to half-way between ``scale.low`` and the threshold, then
    linearly to 50 % at the threshold and to 80 % at ``scale.high``.

    Args:
        image: uint8 (H, W, 3) sRGB; not modified.
        anomaly_map: float (H, W), finite; higher = more anomalous.
        scale: the model's colour scale.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: the image is not a colour image, or the map has another size.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"the image must be uint8 (H, W, 3), but is {image.dtype} {image.shape}")
    if anomaly_map.shape != image.shape[:2]:
        raise ValueError(f"the map has shape {anomaly_map.shape}, but the image {image.shape[:2]}")
    mixed = image.copy()
    rows = max(1, _PIXELS_AT_ONCE // max(1, image.shape[1]))
    for top in range(0, len(image), rows):
        values, pixels = anomaly_map[top : top + rows], mixed[top : top + rows]  # (rows, W), (rows, W, 3)
        position = scale.position(values)
        tinted = position > _POSITIONS[1]  # (rows, W); the others stay as they are
        if tinted.any():
            opacity = np.interp(position[tinted], _POSITIONS, _OPACITIES)[:, None]  # (n, 1)
            colours = (1.0 - opacity) * pixels[tinted] + opacity * scale.colours(values[tinted])  # (n, 3)
            pixels[tinted] = np.round(colours).astype(np.uint8)
    return mixed


def dim_outside(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with dark, colourless pixels outside of the region of interest, where nothing is scored.

    Args:
        image: uint8 (H, W, 3); not modified.
        inside: bool (H, W).
    """
    dimmed = image.copy()
    gray = image[~inside].mean(axis=1) * DIMMED  # (n,)
    dimmed[~inside] = gray[:, None].astype(np.uint8)
    return dimmed


def contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outline of a mask: its pixels that have a neighbour (of 4) outside of it.

    The border of the image does not count as outside: a region that the border cuts off stays open there, and a mask
    of the whole image has no outline.

    Args:
        mask: bool (H, W); True = anomalous.

    Returns:
        bool (H, W), a subset of the mask.
    """
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def draw_contour(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    colour: tuple[int, int, int] = TRUTH_GREEN,
    width: int = 2,
) -> NDArray[np.uint8]:
    """A copy of the image with a mask's outline drawn ``width`` pixels wide, inwards.

    Args:
        image: uint8 (H, W, 3); not modified.
        mask: bool (H, W).
        colour: sRGB.
        width: in pixels, at least 1.

    Raises:
        ValueError: the mask has another size than the image.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(f"the mask has shape {mask.shape}, but the image {image.shape[:2]}")
    drawn, rest = image.copy(), mask
    for _ in range(width):
        line = contour(rest)
        drawn[line] = colour
        rest = rest & ~line
    return drawn
