"""Simulated defects of many shapes and looks, placed by attention: what a head is trained on that must know them all.

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
from flawmap.simulators.attention_cutpaste import LocationDistribution, simulate_anomaly
from flawmap.simulators.defect_shapes import draw_shape
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, anomaly_inside

CUTPASTE_SHARE = 0.3  # of the anomalies are the paper's
SOFT_SHARE = 0.6  # of the defects fade out towards their edge
MIN_CHANGE = 2.0  # gray levels, mean over the channels: a pixel that changes less is not part of the defect
MIN_AREA_PX = 4
LOOKS = ("patch", "light", "noise", "blur")
LOOK_SHARES = (0.4, 0.35, 0.15, 0.1)


@dataclass(frozen=True)
class VariedDefects:
    """Blobs, curves and boxes that hold a moved patch, another brightness, noise or a blur."""

    settings: SimulationSettings = field(default_factory=SimulationSettings)
    needs_attention: ClassVar[bool] = True
    needs_second: ClassVar[bool] = True

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: Float[np.ndarray, "r c"] | None = None,
        second: UInt8[np.ndarray, "h w 3"] | None = None,
    ) -> SimulatedAnomaly:
        """Simulate one to ``max_patches`` defects; see :class:`flawmap.simulators.by_name.Simulator`."""
        if attention is None or second is None:
            raise ValueError("varied defects need the attention of the image and a second image")
        if generator.random() < CUTPASTE_SHARE:
            return simulate_anomaly(image, attention, generator, self.settings)
        places = LocationDistribution(attention, image.shape[0], image.shape[1])
        pixels, footprint = image.astype(np.float32), np.zeros(image.shape[:2], bool)
        for _ in range(int(generator.integers(1, self.settings.max_patches + 1))):
            strength = _placed(
                draw_shape(image.shape[0], image.shape[1], generator), places.sample(generator), image.shape[:2]
            )
            looks = _look(str(generator.choice(LOOKS, p=LOOK_SHARES)), pixels, image, second, generator)
            shares = _faded(strength, generator) * generator.uniform(0.4, 1.0)
            changed = np.rint((pixels + shares[..., None] * (looks - pixels)).clip(0, 255))  # what can be seen of it
            seen = np.abs(changed - pixels).mean(axis=2) > MIN_CHANGE
            if seen.sum() >= MIN_AREA_PX:
                pixels, footprint = np.where(seen[..., None], changed, pixels), footprint | seen
        return anomaly_inside(image, pixels.astype(np.uint8), footprint)


def _placed(
    shape: Bool[np.ndarray, "a b"], center: tuple[int, int], image_shape: tuple[int, ...]
) -> Float[np.ndarray, "h w"]:
    """The shape on a canvas of the image's size, shifted to lie inside."""
    canvas = np.zeros(image_shape[:2], np.float32)
    top, left = (
        min(max(middle - extent // 2, 0), limit - extent)
        for middle, extent, limit in zip(center, shape.shape, image_shape[:2], strict=True)
    )
    canvas[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return canvas


def _faded(shape: Float[np.ndarray, "h w"], generator: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """The share of the defect in each pixel, in [0, 1]: 1 in the shape, or falling off towards its edge."""
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
    """What the whole image would be if it were all defect."""
    height, width = image.shape[:2]
    if name == "patch":  # of the same part or of another one, turned, resized and moved
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
