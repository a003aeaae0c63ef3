"""CutPaste (Li, Sohn, Yoon and Pfister 2021): a rectangle or a thin scar of the image, pasted somewhere else in it."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flawmap.simulators.color_jitter import color_jitter
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, anomaly_inside

AREA = (0.02, 0.15)  # of the rectangle, as a share of the image
FLAT_ASPECT, WIDE_ASPECT = (0.3, 1.0), (1.0, 3.3)  # width / height of the rectangle, one or the other by a fair coin
SCAR_WIDTH, SCAR_LENGTH = (2.0, 16.0), (10.0, 25.0)  # px in an image of SCAR_IMAGE_PX
SCAR_IMAGE_PX = 256
SCAR_ROTATION_DEG = 45.0
MIN_SCAR_PX = 2  # thinner ones can fall between the pixels when they are rotated
JITTER = 0.1  # of brightness, contrast, saturation and hue


@dataclass(frozen=True)
class CutPaste:
    """CutPaste with rectangles (``normal``), scars, or one of the two by a fair coin (``union``).

    Source and destination are uniform and independent, both inside the image; patches are jittered and pasted hard.
    """

    kind: Literal["normal", "scar", "union"] = "normal"
    needs_attention: ClassVar[bool] = False
    needs_second: ClassVar[bool] = False

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: object = None,
        second: object = None,
    ) -> SimulatedAnomaly:
        """Simulate one anomaly; see :class:`flawmap.simulators.by_name.Simulator`."""
        is_scar = self.kind == "scar" or (self.kind == "union" and generator.random() < 0.5)
        return _paste_scar(image, generator) if is_scar else _paste_rectangle(image, generator)


def three_way(
    image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator
) -> tuple[SimulatedAnomaly, SimulatedAnomaly, SimulatedAnomaly]:
    """The three classes of the 3-way pretext, all made of one image: the image itself, a rectangle, a scar.

    Returns:
        the class is the place in the tuple: 0 normal (label 0, empty footprint), 1 CutPaste, 2 scar.
    """
    nothing = np.zeros(image.shape[:2], bool)
    return anomaly_inside(image, image, nothing), _paste_rectangle(image, generator), _paste_scar(image, generator)


def draw_rectangle(height: int, width: int, generator: np.random.Generator) -> tuple[int, int]:
    """Height and width in px of a patch: area U(2 %, 15 %), aspect U(0.3, 1) or U(1, 3.3); cut to the image."""
    area = generator.uniform(*AREA) * height * width
    aspect = generator.uniform(*(FLAT_ASPECT if generator.random() < 0.5 else WIDE_ASPECT))
    return _within(np.sqrt(area / aspect), height), _within(np.sqrt(area * aspect), width)


def draw_scar(height: int, width: int, generator: np.random.Generator) -> tuple[int, int, float]:
    """Length (upright) and width in px of a scar, and its rotation in degrees; scaled with the shorter side."""
    scale = min(height, width) / SCAR_IMAGE_PX
    scar_width = max(MIN_SCAR_PX, round(generator.uniform(*SCAR_WIDTH) * scale))
    length = max(MIN_SCAR_PX, round(generator.uniform(*SCAR_LENGTH) * scale))
    return length, scar_width, generator.uniform(-SCAR_ROTATION_DEG, SCAR_ROTATION_DEG)


def uniform_corner(
    image_shape: tuple[int, int], box_shape: tuple[int, int], generator: np.random.Generator
) -> tuple[int, int]:
    """Top-left corner (row, column) of a box, uniform among all that keep the box inside the image."""
    (height, width), (box_height, box_width) = image_shape, box_shape
    return int(generator.integers(0, height - box_height + 1)), int(generator.integers(0, width - box_width + 1))


def _paste_rectangle(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> SimulatedAnomaly:
    size = draw_rectangle(image.shape[0], image.shape[1], generator)
    patch = _jittered_cut(image, size, generator)
    return _pasted(image, patch, np.ones(size, bool), generator)


def _paste_scar(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> SimulatedAnomaly:
    length, scar_width, angle_deg = draw_scar(image.shape[0], image.shape[1], generator)
    patch = _jittered_cut(image, (length, scar_width), generator)
    # Pillow weighs colours with alpha while it rotates, so no black mixes into the edge
    turned = Image.fromarray(patch).convert("RGBA").rotate(angle_deg, Image.Resampling.BILINEAR, expand=True)
    pixels = np.asarray(turned)[: image.shape[0], : image.shape[1]]
    return _pasted(image, pixels[..., :3], pixels[..., 3] > 127, generator)


def _jittered_cut(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], generator: np.random.Generator
) -> UInt8[np.ndarray, "a b 3"]:
    top, left = uniform_corner(image.shape[:2], size, generator)
    return color_jitter(image[top : top + size[0], left : left + size[1]], generator, *(JITTER,) * 4)


def _pasted(
    image: UInt8[np.ndarray, "h w 3"], patch: np.ndarray, alpha: np.ndarray, generator: np.random.Generator
) -> SimulatedAnomaly:
    """``patch`` (a, b, 3) where ``alpha`` (a, b) is True, at a uniform destination."""
    top, left = uniform_corner(image.shape[:2], alpha.shape, generator)
    place = slice(top, top + alpha.shape[0]), slice(left, left + alpha.shape[1])
    canvas, footprint = image.copy(), np.zeros(image.shape[:2], bool)
    canvas[place], footprint[place] = patch, alpha
    return anomaly_inside(image, canvas, footprint)


def _within(side: float, limit: int) -> int:
    return min(max(1, round(side)), limit)
