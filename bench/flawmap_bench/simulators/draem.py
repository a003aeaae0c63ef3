"""DRAEM's simulator (Zavrtanik, Kristan and Skocaj 2021): a texture blended in where rotated Perlin noise is high."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageEnhance, ImageOps

from flawmap.simulators.color_jitter import is_gray
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator, anomaly_inside

MAX_OCTAVE = 5  # noise has 2**0 to 2**5 cells along each side
THRESHOLD = 0.5  # of noise in [-1, 1]
MAX_ROTATION_DEG = 90.0
MAX_OPACITY_OF_IMAGE = 0.8  # beta ~ U(0, 0.8)
NUM_CHANGES = 3  # of CHANGES, made to each texture
MAX_TRIES = 50  # to draw a mask that is not empty; about one in twenty is empty


@dataclass(frozen=True)
class Draem(Simulator):
    """x outside the mask, (1 - beta) texture + beta x inside.

    Textures are made of noise (the publication: images of DTD). On a gray image the texture is gray, too.

    Attributes:
        probability: how often a defect is made at all; the publication's 0.5 is for loaders that draw no good images
            besides.
    """

    probability: float = 1.0

    def simulate(self, image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> SimulatedAnomaly:
        """Simulate one defect."""
        height, width = image.shape[:2]
        if generator.random() >= self.probability:
            return anomaly_inside(image, image, np.zeros((height, width), bool))
        footprint = perlin_mask(height, width, generator)
        texture = change_texture(made_texture(height, width, generator), generator)
        if is_gray(image):
            texture = np.repeat(np.asarray(Image.fromarray(texture).convert("L"))[..., None], 3, axis=2)
        beta = generator.uniform(0, MAX_OPACITY_OF_IMAGE)
        blended = np.rint((1 - beta) * texture + beta * image).astype(np.uint8)
        return anomaly_inside(image, blended, footprint)


def perlin_noise(
    height: int, width: int, cells: tuple[int, int], generator: np.random.Generator
) -> Float[np.ndarray, "h w"]:
    """Perlin's gradient noise in [-1, 1].

    Each corner of a cell has a random unit vector. A pixel's value is sqrt(2) times the mean, weighted by
    6 t^5 - 15 t^4 + 10 t^3, of the dot products of the four vectors with the offsets from their corners.

    Args:
        height: of the result, in px.
        width: of the result, in px.
        cells: rows and columns of cells; a cell's side need not be a whole number of pixels.
        generator: draws the vectors.
    """
    angles = generator.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    vectors = np.sin(angles), np.cos(angles)
    (row, down), (column, right) = (
        _cells_and_offsets(extent, count) for extent, count in zip((height, width), cells, strict=True)
    )
    dot_products = [  # each (h, w)
        vectors[0][row + i].take(column + j, axis=1) * (down - i)[:, None]
        + vectors[1][row + i].take(column + j, axis=1) * (right - j)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    fade_down, fade_right = _fade(down)[:, None], _fade(right)
    above = dot_products[0] + fade_right * (dot_products[1] - dot_products[0])
    below = dot_products[2] + fade_right * (dot_products[3] - dot_products[2])
    return np.sqrt(2) * (above + fade_down * (below - above))


def perlin_mask(height: int, width: int, generator: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """True where rotated Perlin noise of random resolution exceeds the threshold; drawn again while it is empty."""
    mask = np.zeros((height, width), bool)
    for _ in range(MAX_TRIES):
        noise = perlin_noise(height, width, _draw_cells(generator), generator)
        angle_deg = generator.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG)
        mask = _rotate(noise, angle_deg, cv2.BORDER_CONSTANT) > THRESHOLD  # the corners that come in are 0
        if mask.any():
            break
    return mask


def made_texture(height: int, width: int, generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """A texture: coloured noise of several scales."""
    scales = [_draw_cells(generator) for _ in range(3)]  # shared by the channels: one structure, three colours
    shared = sum(perlin_noise(height, width, cells, generator) for cells in scales)
    channels = [shared + perlin_noise(height, width, scales[0], generator) for _ in range(3)]
    stacked = np.stack(channels, axis=2) + generator.normal(0, 0.1, (height, width, 1))
    spread = 60 / max(float(stacked.std()), 1e-6)
    return np.rint((generator.uniform(64, 192, 3) + spread * stacked).clip(0, 255)).astype(np.uint8)


def change_texture(texture: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Make three different :data:`CHANGES` to a texture, in random order."""
    changes = list(CHANGES.values())
    for number in generator.choice(len(changes), NUM_CHANGES, replace=False):
        texture = changes[number](texture, generator)
    return texture


def _draw_cells(generator: np.random.Generator) -> tuple[int, int]:
    rows, columns = 2 ** generator.integers(0, MAX_OCTAVE + 1, 2)
    return int(rows), int(columns)


def _cells_and_offsets(extent: int, count: int) -> tuple[np.ndarray, Float[np.ndarray, "n"]]:
    """For each pixel's centre along one axis: the cell that it lies in, and its offset within the cell, in [0, 1)."""
    position = (np.arange(extent) + 0.5) * count / extent
    cell = np.floor(position).astype(int)
    return cell, position - cell


def _fade(t: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return t**3 * (t * (t * 6 - 15) + 10)


def _rotate(pixels: np.ndarray, angle_deg: float, border: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


# ---- ten changes of a texture, each uint8 (h, w, 3) -> uint8 (h, w, 3)


def _gamma(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    exponents = generator.uniform(0.5, 2.0, 3)  # one per channel
    return np.rint(255 * (texture / 255) ** exponents).astype(np.uint8)


def _brightness(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    changed = texture * generator.uniform(0.8, 1.2) + generator.uniform(-30, 30)
    return np.rint(changed.clip(0, 255)).astype(np.uint8)


def _sharpness(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    factor = generator.uniform(0.1, 1.9)  # below 1 blurs
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(texture)).enhance(factor))


def _hue_and_saturation(texture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    hue, saturation = generator.integers(-50, 51, 2)
    hsv = cv2.cvtColor(texture, cv2.COLOR_RGB2HSV_FULL).astype(int)  # all three in 0..255; hue is circular
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


CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "gamma": _gamma,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "hue_and_saturation": _hue_and_saturation,
    "solarise": _solarise,
    "posterise": _posterise,
    "invert": _invert,
    "autocontrast": _autocontrast,
    "equalise": _equalise,
    "rotation": _turn,
}
