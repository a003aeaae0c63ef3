"""What a detector takes as an image: a path, a picture, an array, or a good image to learn from."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.find_images import find_images, names_several
from flawmap.data.images.files import read_image
from flawmap.data.images.rgb import to_rgb
from flawmap.data.sample import NormalImage, TrainingData
from flawmap.errors import UserError

ImageLike = str | Path | Image.Image | np.ndarray | NormalImage
Images = ImageLike | Iterable[ImageLike] | TrainingData  # a path may also be that of a folder, or a pattern
WHAT_IS_TAKEN = "give a path, a folder, a PIL image, a uint8 array (H, W, 3), or a list of these"


def as_rgb(image: ImageLike, place: str = "") -> NDArray[np.uint8]:
    """Any accepted image as uint8 RGB (h, w, 3).

    Raises:
        UserError: a file or an array is not an image; names ``place`` for an image that has no path.
    """
    if isinstance(image, NormalImage):
        return read_image(image.path)
    if isinstance(image, str | Path):
        return read_image(Path(image))
    try:
        return to_rgb(image)
    except UserError as error:
        raise UserError(error.problem, error.place or place, error.remedy) from None


def place_of(image: ImageLike, number: int, total: int) -> str:
    """Which image this is, for errors: its path; of an array, its place among ``total``, counted from 1."""
    if isinstance(image, NormalImage):
        return str(image.path)
    if isinstance(image, str | Path):
        return str(image)
    return f"image {number} of {total}" if total > 1 else ""


def is_one_image(images: object) -> bool:
    """Whether this is an image, and neither several nor the name of several."""
    if isinstance(images, str | Path):
        return not names_several(images)
    return isinstance(images, ImageLike)


def each_of(images: object) -> Sequence[ImageLike]:
    """Every image of what was given: one image, several, a folder, a pattern, or the result of ``load_images``.

    Raises:
        UserError: something is not an image, or a folder has none.
    """
    if isinstance(images, TrainingData):
        return images.images
    found: list[ImageLike] = []
    listed = listed_of(images)
    for number, image in enumerate(listed, 1):
        if isinstance(image, str | Path) and names_several(image):
            found += find_images([str(image)]).images
        else:
            found.append(checked(image, number, len(listed)))
    return found


def listed_of(images: object) -> Sequence[object]:
    """One as a list of one; several as a list."""
    if isinstance(images, Iterable) and not isinstance(images, ImageLike | bytes | Mapping):
        return images if isinstance(images, Sequence) else list(images)
    return [images]


def checked(image: object, number: int, total: int) -> ImageLike:
    """The same, whose type is that of an image.

    Raises:
        UserError: it is not; names which of ``total`` it is, counted from 1.
    """
    if isinstance(image, ImageLike):
        return image
    place = f"image {number} of {total}" if total > 1 else ""
    raise UserError(f"this is not an image: a value of type {type(image).__name__}", place, WHAT_IS_TAKEN)
