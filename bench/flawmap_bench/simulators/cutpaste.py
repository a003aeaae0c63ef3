"""CutPaste (Li, Sohn, Yoon and Pfister 2021): a rectangle or a thin scar of the image, pasted elsewhere in it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from flawmap.simulators.blending import on_canvas
from flawmap.simulators.color_jitter import color_jitter
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator, anomaly_inside

AREA = (0.02, 0.15)  # of the rectangle, as a share of the image
FLAT_ASPECT, WIDE_ASPECT = (0.3, 1.0), (1.0, 3.3)  # width / height of the rectangle, one or the other by a fair coin
SCAR_WIDTH, SCAR_LENGTH = (2.0, 16.0), (10.0, 25.0)  # px in an image of SCAR_IMAGE_PX
SCAR_IMAGE_PX = 256
SCAR_ROTATION_DEG = 45.0
MIN_SCAR_PX = 2  # thinner ones can fall between the pixels when they are rotated
JITTER = 0.1  # of brightness, contrast, saturation and hue


@dataclass(frozen=True)
class CutPaste(Simulator):
    """CutPaste with rectangles (``normal``), scars, or one of the two by a fair coin (``union``).

    Source and destination are uniform and independent, both inside the image; patches are jittered and pasted hard.
    """

    kind: Literal["normal", "scar", "union"] = "normal"

    def simulate(self, image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> SimulatedAnomaly:
        """Simulate one defect."""
        if self.kind == "scar" or (self.kind == "union" and generator.random() < 0.5):
            patch, alpha = _scar(image, generator)
        else:
            size = draw_rectangle(image.shape[0], image.shape[1], generator)
            patch, alpha = _jittered_cut(image, size, generator), np.ones(size, bool)
        place = uniform_box(image.shape[:2], patch.shape[:2], generator)
        return anomaly_inside(image, *on_canvas(image, patch, alpha, place))


def draw_rectangle(height: int, width: int, generator: np.random.Generator) -> tuple[int, int]:
    """Height and width in px of a patch: area U(2 %, 15 %), aspect U(0.3, 1) or U(1, 3.3); cropped to the image."""
    area = generator.uniform(*AREA) * height * width
    aspect = generator.uniform(*(FLAT_ASPECT if generator.random() < 0.5 else WIDE_ASPECT))
    return _within(np.sqrt(area / aspect), height), _within(np.sqrt(area * aspect), width)


def draw_scar(height: int, width: int, generator: np.random.Generator) -> tuple[int, int, float]:
    """Length (upright) and width in px of a scar, and its rotation in degrees; scaled with the shorter side."""
    scale = min(height, width) / SCAR_IMAGE_PX
    scar_width = max(MIN_SCAR_PX, round(generator.uniform(*SCAR_WIDTH) * scale))
    length = max(MIN_SCAR_PX, round(generator.uniform(*SCAR_LENGTH) * scale))
    return length, scar_width, generator.uniform(-SCAR_ROTATION_DEG, SCAR_ROTATION_DEG)


def uniform_box(
    image_shape: tuple[int, int], box_shape: tuple[int, int], generator: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a box, uniform among all places that keep the box inside the image."""
    (height, width), (box_height, box_width) = image_shape, box_shape
    top = int(generator.integers(0, height - box_height + 1))
    left = int(generator.integers(0, width - box_width + 1))
    return slice(top, top + box_height), slice(left, left + box_width)


def _scar(
    image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator
) -> tuple[UInt8[np.ndarray, "a b 3"], Bool[np.ndarray, "a b"]]:
    """A jittered and rotated scar of the image, and which pixels of its bounding box belong to it."""
    length, scar_width, angle_deg = draw_scar(image.shape[0], image.shape[1], generator)
    patch = _jittered_cut(image, (length, scar_width), generator)
    # Pillow weighs colours with alpha while it rotates, so that no black mixes into the edge
    rotated = Image.fromarray(patch).convert("RGBA").rotate(angle_deg, Image.Resampling.BILINEAR, expand=True)
    pixels = np.asarray(rotated)[: image.shape[0], : image.shape[1]]
    return pixels[..., :3], pixels[..., 3] > 127


def _jittered_cut(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], generator: np.random.Generator
) -> UInt8[np.ndarray, "a b 3"]:
    source = image[uniform_box(image.shape[:2], size, generator)]
    return color_jitter(source, generator, JITTER, JITTER, JITTER, JITTER)


def _within(side: float, limit: int) -> int:
    return min(max(1, round(side)), limit)
