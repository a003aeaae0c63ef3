"""DRAEM's simulator (Zavrtanik, Kristan and Skocaj 2021): a texture blended in where rotated Perlin noise is high."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageEnhance, ImageOps

from flawmap.data.images.files import read_image
from flawmap.data.layouts.image_folders import list_images
from flawmap.errors import UserError
from flawmap.simulators.color_jitter import is_gray
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, anomaly_inside

MAX_OCTAVE = 5  # noise has 2**0 to 2**5 cells along each side
THRESHOLD = 0.5  # of noise in [-1, 1]
MAX_ROTATION_DEG = 90.0
MAX_OPACITY_OF_IMAGE = 0.8  # beta ~ U(0, 0.8)
NUM_CHANGES = 3  # different ones, done to each texture
MAX_TRIES = 50  # for a mask that is not empty; about one in twenty is


class Draem:
    """x outside the mask, (1 - beta) texture + beta x inside.

    On a gray image the texture is gray too.

    Args:
        texture_folder: images to take textures from, folders below included (the publication: DTD); without one,
            textures are made of noise.
        probability: how often an anomaly is made at all; the publication's 0.5 is for loaders that draw no normal
            images besides.

    Raises:
        UserError: the folder is missing or holds no image.
    """

    needs_attention: ClassVar[bool] = False
    needs_second: ClassVar[bool] = False

    def __init__(self, texture_folder: Path | None = None, probability: float = 1.0) -> None:
        self.probability = probability
        self._files: list[Path] = []
        if texture_folder is not None:
            self._files = list_images(texture_folder, recursive=True) if texture_folder.is_dir() else []
            if not self._files:
                raise UserError(
                    "no textures were found", str(texture_folder), "name a folder of images, or none for made textures"
                )

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: object = None,
        second: object = None,
    ) -> SimulatedAnomaly:
        """Simulate one anomaly; see :class:`flawmap.simulators.by_name.Simulator`."""
        if generator.random() >= self.probability:
            return anomaly_inside(image, image, np.zeros(image.shape[:2], bool))
        height, width = image.shape[:2]
        footprint = perlin_mask(height, width, generator)
        texture = change_texture(self._texture(height, width, generator), generator)
        if is_gray(image):
            texture = np.repeat(np.asarray(Image.fromarray(texture).convert("L"))[..., None], 3, axis=2)
        beta = generator.uniform(0, MAX_OPACITY_OF_IMAGE)
        blended = np.rint((1 - beta) * texture + beta * image).astype(np.uint8)
        return anomaly_inside(image, blended, footprint)

    def _texture(self, height: int, width: int, generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
        if not self._files:
            return made_texture(height, width, generator)
        pixels = read_image(self._files[int(generator.integers(len(self._files)))])
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def perlin_noise(
    height: int, width: int, cells: tuple[int, int], generator: np.random.Generator
) -> Float[np.ndarray, "h w"]:
    """Perlin's gradient noise in [-1, 1], with (rows, columns) cells of any size in pixels, even fractions.

    Each corner of a cell has a random unit vector; a pixel's value is the mean, weighted by 6 t^5 - 15 t^4 + 10 t^3,
    of the products of the four vectors with the ways from their corners, times sqrt(2).
    """
    angles = generator.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    vectors = np.sin(angles), np.cos(angles)
    (row, down), (column, right) = (
        _cells_and_ways(extent, count) for extent, count in zip((height, width), cells, strict=True)
    )

    values = [
        vectors[0][row + lower].take(column + righter, axis=1) * (down - lower)[:, None]
        + vectors[1][row + lower].take(column + righter, axis=1) * (right - righter)
        for lower, righter in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    fade_down, fade_right = _fade(down)[:, None], _fade(right)
    above = values[0] + fade_right * (values[1] - values[0])
    below = values[2] + fade_right * (values[3] - values[2])
    return np.sqrt(2) * (above + fade_down * (below - above))


def perlin_mask(height: int, width: int, generator: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """Where rotated Perlin noise of random resolution exceeds the threshold; drawn again while that is nowhere."""
    mask = np.zeros((height, width), bool)
    for _ in range(MAX_TRIES):
        noise = perlin_noise(height, width, _draw_cells(generator), generator)
        angle_deg = generator.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG)
        mask = _rotate(noise, angle_deg, cv2.BORDER_CONSTANT) > THRESHOLD  # 0 comes in from outside: no anomaly
        if mask.any():
            break
    return mask


def made_texture(height: int, width: int, generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Coloured noise of several scales, for those who have no folder of textures."""
    scales = [_draw_cells(generator) for _ in range(3)]  # the same in all channels: one structure, three colours
    shared = sum(perlin_noise(height, width, cells, generator) for cells in scales)
    channels = [shared + perlin_noise(height, width, scales[0], generator) for _ in range(3)]
    stacked = np.stack(channels, axis=2) + generator.normal(0, 0.1, (height, width, 1))
    spread = 60 / max(float(stacked.std()), 1e-6)
    return np.rint((generator.uniform(64, 192, 3) + spread * stacked).clip(0, 255)).astype(np.uint8)


def change_texture(texture: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Do three different ones of :data:`CHANGES` to a texture, in random order."""
    for number in generator.choice(len(CHANGES), NUM_CHANGES, replace=False):
        texture = CHANGES[number](texture, generator)
    return texture


def _draw_cells(generator: np.random.Generator) -> tuple[int, int]:
    rows, columns = 2 ** generator.integers(0, MAX_OCTAVE + 1, 2)
    return int(rows), int(columns)


def _cells_and_ways(extent: int, count: int) -> tuple[np.ndarray, Float[np.ndarray, "n"]]:
    """Of each pixel's centre along one axis: the cell it lies in, and how far into it, in [0, 1)."""
    position = (np.arange(extent) + 0.5) * count / extent
    cell = np.floor(position).astype(int)
    return cell, position - cell


def _fade(way: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return way**3 * (way * (way * 6 - 15) + 10)


def _rotate(pixels: np.ndarray, angle_deg: float, border: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


# ---- what can be done to a texture: ten changes, each uint8 (h, w, 3) -> uint8 (h, w, 3)


def _gamma(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    exponents = generator.uniform(0.5, 2.0, 3)  # of each channel on its own
    return np.rint(255 * (texture / 255) ** exponents).astype(np.uint8)


def _brightness(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    changed = texture * generator.uniform(0.8, 1.2) + generator.uniform(-30, 30)
    return np.rint(changed.clip(0, 255)).astype(np.uint8)


def _sharpness(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    factor = generator.uniform(0.1, 1.9)  # below 1 blurs
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(texture)).enhance(factor))


def _hue_and_saturation(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    hue, saturation = generator.integers(-50, 51, 2)
    hsv = cv2.cvtColor(texture, cv2.COLOR_RGB2HSV_FULL).astype(int)  # all in 0..255, hue goes round
    hsv[..., 0] = (hsv[..., 0] + hue) % 256
    hsv[..., 1] = (hsv[..., 1] + saturation).clip(0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)


def _solarise(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.where(texture < generator.integers(32, 129), texture, 255 - texture)


def _posterise(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.asarray(ImageOps.posterize(Image.fromarray(texture), int(generator.integers(1, 9))))


def _invert(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return 255 - texture


def _autocontrast(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.asarray(ImageOps.autocontrast(Image.fromarray(texture)))


def _equalise(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.asarray(ImageOps.equalize(Image.fromarray(texture)))


def _turn(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return _rotate(texture, generator.uniform(-45.0, 45.0), cv2.BORDER_REFLECT_101)


CHANGES: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _gamma,
    _brightness,
    _sharpness,
    _hue_and_saturation,
    _solarise,
    _posterise,
    _invert,
    _autocontrast,
    _equalise,
    _turn,
)
