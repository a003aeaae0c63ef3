"""What a detector takes as an image: a path, a picture, an array, or a good image to learn from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.images.rgb import to_rgb
from flawmap.data.sample import NormalImage, TrainingData
from flawmap.errors import UserError

ImageLike = str | Path | Image.Image | np.ndarray | NormalImage


def only_normal(images: Sequence[object]) -> tuple[NormalImage, ...]:
    """The images to train on, whose type cannot hold a label.

    Raises:
        UserError: an image has another type, for example that of labelled test images.
    """
    other_types = {type(image).__name__ for image in images if not isinstance(image, NormalImage)}
    if other_types:
        raise UserError(
            f"training takes NormalImage only, not {', '.join(sorted(other_types))}",
            "AnomalyDetector.fit",
            "flawmap.load_images(FOLDER) returns them; never train on labelled test images",
        )
    return tuple(image for image in images if isinstance(image, NormalImage))


def as_rgb(image: ImageLike) -> UInt8[np.ndarray, "h w 3"]:
    """Any accepted image as uint8 RGB."""
    if isinstance(image, NormalImage):
        return read_image(image.path)
    if isinstance(image, str | Path):
        return read_image(Path(image))
    return to_rgb(image)


def place_of(image: ImageLike, number: int, total: int) -> str:
    """Which image this is, for errors: its path; of an array, its place among ``total``, counted from 1."""
    if isinstance(image, NormalImage):
        return str(image.path)
    if isinstance(image, str | Path):
        return str(image)
    return f"image {number} of {total}" if total > 1 else ""


def each_of(images: ImageLike | Sequence[ImageLike] | TrainingData) -> Sequence[ImageLike]:
    """A sequence of images, whether one image, several, or the result of ``load_images`` is given."""
    if isinstance(images, TrainingData):
        return images.images
    return [images] if isinstance(images, ImageLike) else images
