"""Shapes of simulated defects: blobs, thin curves and boxes, over more than two orders of magnitude in area."""

import cv2
import numpy as np
from jaxtyping import Bool

MIN_AREA, MAX_AREA = 0.0006, 0.25  # of the image, log-uniform
SHAPES = ("blob", "curve", "box")
SHAPE_SHARES = (0.5, 0.25, 0.25)
BLOB_LEVEL = 0.25  # where the bumpy dome of a blob is cut off
MIN_SIDE_PX = 3


def draw_shape(height: int, width: int, generator: np.random.Generator) -> Bool[np.ndarray, "a b"]:
    """A shape in its bounding box, True somewhere, no larger than the image."""
    shape = str(generator.choice(SHAPES, p=SHAPE_SHARES))
    if shape == "curve":
        drawn = _curve(height, width, generator)
    else:
        side = np.sqrt(np.exp(generator.uniform(np.log(MIN_AREA), np.log(MAX_AREA))) * height * width)
        ratio = np.exp(generator.uniform(-1, 1) / 2)
        rows = int(np.clip(side * ratio, MIN_SIDE_PX, height))
        columns = int(np.clip(side / ratio, MIN_SIDE_PX, width))
        drawn = _blob(rows, columns, generator) if shape == "blob" else np.ones((rows, columns), bool)
    return drawn if drawn.any() else np.ones((MIN_SIDE_PX, MIN_SIDE_PX), bool)


def _blob(rows: int, columns: int, generator: np.random.Generator) -> Bool[np.ndarray, "a b"]:
    """A dome with bumps, cut off at a height."""
    bumps = int(generator.integers(3, 7))
    noise = cv2.resize(
        generator.random((bumps, bumps)).astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    dome = 1.2 * (1 - np.sqrt(y**2 + x**2))
    return dome + (noise - 0.5) * generator.uniform(0.3, 1.5) > BLOB_LEVEL


def _curve(height: int, width: int, generator: np.random.Generator) -> Bool[np.ndarray, "a b"]:
    """A random walk that keeps its direction for a while, 0.4 to 3 % of the width thick."""
    steps = int(generator.integers(3, 7))
    length_px = generator.uniform(0.1, 0.8) * min(height, width) / steps
    angles = generator.uniform(0, 2 * np.pi) + np.cumsum(generator.normal(0, 0.5, steps))
    points = np.cumsum(length_px * np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)
    points = np.vstack([np.zeros((1, 2)), points])
    thickness_px = max(1, round(generator.uniform(0.004, 0.03) * width))
    points = np.rint(points - points.min(axis=0) + thickness_px).astype(np.int32)
    canvas = np.zeros(points.max(axis=0)[::-1] + thickness_px + 1, np.uint8)
    cv2.polylines(canvas, [points], False, 1, thickness_px)
    return canvas[:height, :width] > 0
