"""Good images to learn from, however they are given: as folders, files, pictures or arrays."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from flawmap.data.find_images import find_images, names_several
from flawmap.data.images.files import IMAGE_SUFFIXES
from flawmap.data.open_data import open_training_data
from flawmap.data.sample import KnownDefect, NormalImage, TrainingData
from flawmap.detect.image_like import ImageLike, as_rgb, checked, listed_of
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

IN_MEMORY = "in-memory"  # begins the keys of images that have no file


def good_images(images: object, settings: DataSettings) -> Sequence[ImageLike]:
    """Every good image of what was given; those of a data location with their keys and groups.

    Args:
        images: one or several of: the result of ``load_images``, a data location such as a folder or a manifest, an
            image file, a pattern, a PIL image, an array, a :class:`NormalImage`.
        settings: how folders are read.

    Raises:
        UserError: something is no image to learn from, or a location cannot be read.
    """
    if isinstance(images, TrainingData):
        return images.images
    found: list[ImageLike] = []
    listed = listed_of(images)
    locations = [one for one in listed if isinstance(one, str | Path) and _is_location(one)]
    if locations:
        found += open_training_data(locations if len(locations) > 1 else locations[0], settings).images
    for number, image in enumerate(listed, 1):
        # Labelled images and test data are told by their fields: training code knows no type with labels.
        if isinstance(image, KnownDefect) or hasattr(image, "is_anomalous") or hasattr(image, "samples"):
            raise UserError(
                f"training takes good images only, such as NormalImage, not {type(image).__name__}",
                "AnomalyDetector.fit",
                "flawmap.load_images(FOLDER) returns them; never train on labelled test images",
            )
        if not isinstance(image, str | Path):
            found.append(checked(image, number, len(listed)))
        elif not _is_location(image):
            found += [NormalImage(path.as_posix(), path) for path in find_images([str(image)]).images]
    return list(dict.fromkeys(found)) if all(isinstance(image, NormalImage) for image in found) else found


@contextmanager
def in_files(images: Sequence[ImageLike]) -> Iterator[tuple[NormalImage, ...]]:
    """The same images as training reads them: those in memory are PNG files of the same pixels within the context."""
    with tempfile.TemporaryDirectory(prefix="flawmap-images-") as folder:
        found: list[NormalImage] = []
        for number, image in enumerate(images):
            if isinstance(image, NormalImage):
                found.append(image)
                continue
            pixels = as_rgb(image, f"image {number + 1} of {len(images)}")
            key = f"{IN_MEMORY}/{number:06d}.png"
            path = Path(folder) / f"{number:06d}.png"
            Image.fromarray(pixels).save(path, compress_level=1)
            found.append(NormalImage(key, path))
        yield tuple(found)


def _is_location(name: str | Path) -> bool:
    """Whether a name is that of data, and neither of one image file nor a pattern; it need not exist."""
    path = Path(name)
    if path.is_dir() or path.suffix.lower() == ".csv":
        return True
    return not path.is_file() and not names_several(name) and path.suffix.lower() not in IMAGE_SUFFIXES
