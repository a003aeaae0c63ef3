"""Synthetic images for tests, and the files and folders made of them. Images are uint8 (height, width, 3)."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

NUM_TRAIN, NUM_TEST, SIDE_PX = 24, 6, 48
BlockKind = Literal["noise", "turned"]


def noise(seed: int, height: int = 12, width: int = 16, low: int = 0, high: int = 256) -> np.ndarray:
    """Independent uniform values in [low, high)."""
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8)


def striped(seed: int, height: int = SIDE_PX, width: int = SIDE_PX) -> np.ndarray:
    """Gray stripes with noise: a good part; the seed sets the phase."""
    generator = np.random.default_rng(seed)
    waves = 120 + 50 * np.sin(np.arange(width) / 4 + generator.uniform(0, 6))
    noisy = waves[None, :, None] + generator.normal(0, 10, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def texture(seed: int, height: int = SIDE_PX, width: int = SIDE_PX) -> np.ndarray:
    """Stripes with noise in a colour of their own: a good part; the seed sets phase and colour."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = 120 + 40 * np.sin(columns / 5 + generator.uniform(0, 6)) + 20 * np.cos(rows / 7)
    noisy = waves[..., None] + generator.normal(0, 8, (height, width, 3)) + generator.uniform(-20, 20, 3)
    return noisy.clip(0, 255).astype(np.uint8)


def scratched(seed: int, height: int = SIDE_PX, width: int = SIDE_PX) -> tuple[np.ndarray, np.ndarray]:
    """A texture with a dark block, and the block's mask as bool (height, width)."""
    image, mask = texture(seed, height, width), np.zeros((height, width), bool)
    mask[height // 3 : height // 2, width // 4 : width // 2] = True
    image[mask] = 5
    return image, mask


def plain(seed: int, height: int, width: int, spread: float = 0.6) -> np.ndarray:
    """Gray stripes with little noise, a set on which every method must find :func:`flawed` images.

    The phase is uniform in [0, spread) radians.
    """
    generator = np.random.default_rng(seed)
    return _gray_image(_fine_stripes(height, width, False, spread, generator))


def flawed(
    seed: int, height: int, width: int, spread: float = 0.6, kind: BlockKind = "noise"
) -> tuple[np.ndarray, np.ndarray]:
    """A :func:`plain` image with a block of black and white noise or of turned stripes, and the block's mask."""
    generator = np.random.default_rng(seed)
    stripes = _fine_stripes(height, width, False, spread, generator)
    rows, columns = height // 3, width // 3
    top, left = int(generator.integers(2, height - rows - 2)), int(generator.integers(2, width - columns - 2))
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = True
    black_and_white = generator.choice([15.0, 240.0], (height, width))
    block = black_and_white if kind == "noise" else _fine_stripes(height, width, True, spread, generator)
    return _gray_image(np.where(mask, block, stripes)), mask


def _fine_stripes(
    height: int, width: int, is_turned: bool, spread: float, generator: np.random.Generator
) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    along = rows if is_turned else columns
    return 128 + 60 * np.sin(along / 2 + generator.uniform(0, spread)) + generator.normal(0, 4, (height, width))


def _gray_image(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def write_image(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> Path:
    """Write pixels to a file, with its folders; the extension sets the format, ``options`` go to Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def pixels_of(path: str | Path) -> np.ndarray:
    """The pixels of a file as they are stored."""
    with Image.open(path) as image:
        return np.asarray(image)


def truncate(path: Path) -> Path:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def write_noise(folder: Path, seeds: range) -> list[Path]:
    """One image of noise for each seed, named by it."""
    return [write_image(folder / f"{seed:03d}.png", noise(seed)) for seed in seeds]


def write_good(folder: Path, count: int = NUM_TRAIN, first_seed: int = 0) -> Path:
    """A plain folder of good, striped images."""
    for number in range(count):
        write_image(folder / f"{number:03d}.png", striped(first_seed + number))
    return folder


def write_category(root: Path) -> Path:
    """A category in MVTec AD layout with two kinds of defects; ``hole`` has masks, ``stain`` has none."""
    write_good(root / "train" / "good")
    write_good(root / "test" / "good", NUM_TEST, first_seed=1000)
    for number in range(NUM_TEST):
        for kind, value, rows in (("hole", 0, slice(8, 20)), ("stain", 255, slice(30, 40))):
            pixels = striped(2000 + number + value)
            pixels[rows, 10:24] = value
            write_image(root / "test" / kind / f"{number:03d}.png", pixels)
        mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        mask[8:20, 10:24] = 255
        write_image(root / "ground_truth" / "hole" / f"{number:03d}_mask.png", mask)
    return root
