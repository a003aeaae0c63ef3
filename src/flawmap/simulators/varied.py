"""Simulated defects of many shapes and looks, placed by attention: what the recommended head is trained on.

Cut and paste alone gives rectangles of the part's own texture. Real defects are also thin (cracks), round (holes),
without an edge (stains, uneven light, opacities), and smaller or larger by orders of magnitude. Here each defect
draws its shape and its look independently.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste, LocationDistribution, start_inside
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator, anomaly_inside

CUTPASTE_SHARE = 0.3  # of the images get the paper's attention-conditioned cut and paste instead
SOFT_SHARE = 0.6  # of the defects fade out towards their edge
MIN_CHANGE = 2.0  # gray levels, mean over the channels: a pixel that changes less is not part of the defect
MIN_AREA_PX = 4
LOOKS = ("patch", "light", "noise", "blur")
LOOK_SHARES = (0.4, 0.35, 0.15, 0.1)

MIN_AREA, MAX_AREA = 0.0006, 0.25  # of a shape, as a share of the image; log-uniform
SHAPES = ("blob", "curve", "box")
SHAPE_SHARES = (0.5, 0.25, 0.25)
BLOB_LEVEL = 0.25  # a blob is where its dome is higher than this
MIN_SIDE_PX = 3


@dataclass(frozen=True)
class VariedDefects(Simulator):
    """Blobs, curves and boxes that hold a moved patch, another brightness, noise or a blur."""

    settings: SimulationSettings = field(default_factory=SimulationSettings)
    needs: ClassVar = ("attention", "second")

    def simulate(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: Float[np.ndarray, "r c"],
        second: UInt8[np.ndarray, "h w 3"],
    ) -> SimulatedAnomaly:
        """Simulate one to ``max_patches`` defects."""
        if generator.random() < CUTPASTE_SHARE:
            return AttentionCutPaste(self.settings)(image, generator, attention)
        height, width = image.shape[:2]
        locations = LocationDistribution(attention, height, width)
        pixels, footprint = image.astype(np.float32), np.zeros((height, width), bool)
        for _ in range(int(generator.integers(1, self.settings.max_patches + 1))):
            shape = draw_shape(height, width, generator)
            shape = _placed(shape, locations.sample(generator), (height, width))  # (h, w)
            defective = _look(str(generator.choice(LOOKS, p=LOOK_SHARES)), pixels, image, second, generator)
            opacity = _faded(shape, generator) * generator.uniform(0.4, 1.0)  # (h, w)
            changed = np.rint((pixels + opacity[..., None] * (defective - pixels)).clip(0, 255))
            visible = np.abs(changed - pixels).mean(axis=2) > MIN_CHANGE
            if visible.sum() >= MIN_AREA_PX:
                pixels, footprint = np.where(visible[..., None], changed, pixels), footprint | visible
        return anomaly_inside(image, pixels.astype(np.uint8), footprint)


def draw_shape(height: int, width: int, generator: np.random.Generator) -> Bool[np.ndarray, "a b"]:
    """A shape in its bounding box, which is no larger than the image; True in at least one pixel."""
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
    """The upper part of a bumpy dome."""
    bumps = int(generator.integers(3, 7))
    noise = cv2.resize(
        generator.random((bumps, bumps)).astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    dome = 1.2 * (1 - np.sqrt(y**2 + x**2))
    return dome + (noise - 0.5) * generator.uniform(0.3, 1.5) > BLOB_LEVEL


def _curve(height: int, width: int, generator: np.random.Generator) -> Bool[np.ndarray, "a b"]:
    """A random walk of three to six steps that changes direction slowly; 0.4 % to 3 % of the image width thick."""
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


def _placed(
    shape: Bool[np.ndarray, "a b"], center: tuple[int, int], image_shape: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """The shape on a canvas of the image's size, shifted to lie inside."""
    canvas = np.zeros(image_shape, np.float32)
    top, left = (start_inside(*sizes) for sizes in zip(center, shape.shape, image_shape, strict=True))
    canvas[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return canvas


def _faded(shape: Float[np.ndarray, "h w"], generator: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Opacity of the defect in each pixel, in [0, 1]: 1 in the shape, or falling off towards its edge."""
    if generator.random() >= SOFT_SHARE:
        return shape
    rows, columns = np.nonzero(shape)
    extent = min(np.ptp(rows), np.ptp(columns)) + 1
    sigma = generator.uniform(0.5, max(0.6, 0.25 * extent))
    blurred = cv2.GaussianBlur(shape, (0, 0), float(sigma)) * shape
    return blurred / blurred.max()


def _look(
    name: str,
    pixels: Float[np.ndarray, "h w 3"],
    image: UInt8[np.ndarray, "h w 3"],
    second: UInt8[np.ndarray, "h w 3"],
    generator: np.random.Generator,
) -> Float[np.ndarray, "h w 3"]:
    """The whole image as it would look if all of it were defective."""
    height, width = image.shape[:2]
    if name == "patch":  # of the same part or of another one, rotated, resized and moved
        source = second if generator.random() < 0.5 else image
        scale = float(np.exp(generator.uniform(-0.5, 0.5)))
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(generator.uniform(0, 360)), scale)
        matrix[:, 2] += generator.uniform(-0.3, 0.3, size=2) * (width, height)
        moved = cv2.warpAffine(source, matrix, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.float32)
        middle = moved.mean()
        return (moved - middle) * np.float32(generator.uniform(0.7, 1.3)) + middle + np.float32(generator.normal(0, 15))
    if name == "light":  # brighter or darker, with more or less contrast
        step = generator.choice([-1, 1]) * generator.uniform(8, 70)
        return (pixels - 128) * np.float32(generator.uniform(0.6, 1.4)) + 128 + np.float32(step)
    if name == "noise":  # of any grain
        grain = int(generator.integers(4, max(5, width // 2)))
        noise = cv2.resize(generator.normal(0, 1, (grain, grain)).astype(np.float32), (width, height))
        return pixels + noise[..., None] * np.float32(generator.uniform(8, 40))
    return cv2.GaussianBlur(pixels, (0, 0), float(generator.uniform(1, 5)))
