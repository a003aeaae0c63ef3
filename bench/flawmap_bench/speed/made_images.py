"""Images for measurements: made-up good parts, and many slightly different images of few."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.reproducibility import numpy_generator

HEIGHT_PX, WIDTH_PX = 360, 300
CROPPED = 0.04  # largest share that is cut off a side
BRIGHTNESS = 0.06  # largest change, as a share


def made_part(seed: int, number: int) -> UInt8[np.ndarray, "h w 3"]:
    """A brushed plate with a grain of its own and four holes that are never at quite the same place."""
    generator = numpy_generator(seed, "part", number)
    grain = cv2.GaussianBlur(generator.normal(0, 60, (HEIGHT_PX, WIDTH_PX)).astype(np.float32), (0, 0), 6, sigmaY=0.8)
    plate = (150 + generator.uniform(-15, 15) + grain).astype(np.float32)
    shift = generator.uniform(-6, 6, 2)
    for row, column in ((0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8)):
        centre = (round(column * WIDTH_PX + shift[0]), round(row * HEIGHT_PX + shift[1]))
        cv2.circle(plate, centre, 18, 40.0, -1, cv2.LINE_AA)
    noisy = plate + generator.normal(0, 3, plate.shape)
    return np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def write_parts(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """So many made-up parts as JPEG files."""
    return [_written(folder, number, made_part(seed, number)) for number in range(count)]


def write_variants(folder: Path, sources: Sequence[Path], count: int, seed: int = 0) -> list[Path]:
    """So many JPEG files, each a source image with its sides cropped a little and its brightness changed.

    No two have the same pixels, because flawmap drops copies.
    """
    return [
        _written(folder, number, variant(read_image(sources[number % len(sources)]), seed, number))
        for number in range(count)
    ]


def variant(image: UInt8[np.ndarray, "h w 3"], seed: int, number: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image less up to :data:`CROPPED` of each side, brighter or darker by up to :data:`BRIGHTNESS`."""
    generator = numpy_generator(seed, "variant", number)
    height, width = image.shape[:2]
    top, bottom = (round(share * height) for share in generator.uniform(0, CROPPED, 2))
    left, right = (round(share * width) for share in generator.uniform(0, CROPPED, 2))
    cropped = image[top : height - bottom, left : width - right].astype(np.float32)
    return (cropped * (1 + generator.uniform(-BRIGHTNESS, BRIGHTNESS))).clip(0, 255).round().astype(np.uint8)


def _written(folder: Path, number: int, pixels: UInt8[np.ndarray, "h w 3"]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:06d}.jpg"
    Image.fromarray(pixels).save(path, quality=92)
    return path
