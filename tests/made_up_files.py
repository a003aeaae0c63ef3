"""Small image files for the tests of the readers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flawmap.errors import UserError


def picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    """Noise, uint8 (height, width, 3), different for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> Path:
    """Write pixels as an image file, with its folders; the ending says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def save_pictures(folder: Path, seeds: range) -> list[Path]:
    """One picture for each seed, named by it."""
    return [save(folder / f"{seed:03d}.png", picture(seed)) for seed in seeds]


def truncate(path: Path) -> Path:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@contextmanager
def mistake(problem: str, place: str | Path, remedy: str) -> Iterator[None]:
    """Expect a UserError with exactly this problem and place; the remedy may hold more."""
    with pytest.raises(UserError) as caught:
        yield
    assert caught.value.problem == problem
    assert caught.value.place == str(place)
    assert remedy in caught.value.remedy and remedy
