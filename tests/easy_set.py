"""A made-up set that every method must tell apart: upright stripes, and stripes with a block of something else."""

from typing import Literal

import numpy as np

FlawKind = Literal["noise", "turned"]


def plain(seed: int, height: int, width: int, spread: float = 0.6) -> np.ndarray:
    """Gray stripes with noise, uint8 (height, width, 3); their phase is uniform in [0, spread) radians."""
    generator = np.random.default_rng(seed)
    return _as_image(_stripes(height, width, False, spread, generator))


def flawed(
    seed: int, height: int, width: int, spread: float = 0.6, kind: FlawKind = "noise"
) -> tuple[np.ndarray, np.ndarray]:
    """The same with a block of black and white noise, or of turned stripes, and the block's mask."""
    generator = np.random.default_rng(seed)
    stripes = _stripes(height, width, False, spread, generator)
    rows, columns = height // 3, width // 3
    top, left = int(generator.integers(2, height - rows - 2)), int(generator.integers(2, width - columns - 2))
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = True
    noise = generator.choice([15.0, 240.0], (height, width))
    other = noise if kind == "noise" else _stripes(height, width, True, spread, generator)
    return _as_image(np.where(mask, other, stripes)), mask


def _stripes(height: int, width: int, is_turned: bool, spread: float, generator: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    along = rows if is_turned else columns
    return 128 + 60 * np.sin(along / 2 + generator.uniform(0, spread)) + generator.normal(0, 4, (height, width))


def _as_image(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
