"""A CSV list of images to judge, which may say what product each image shows and which camera took it.

The column ``image`` holds paths relative to the list. ``product`` and ``camera`` are optional, and so are their values.
Other columns are not read, so that a data set's manifest is such a list, too.
"""

from dataclasses import dataclass
from pathlib import Path

from flawmap.data.layouts.manifest import listed_file
from flawmap.data.layouts.tables import read_table
from flawmap.data.products import CAMERA, PRODUCT, part_names
from flawmap.errors import UserError

SUFFIX = ".csv"
IMAGE = "image"
REMEDY = "let its first line be image,product,camera (the last two are optional); save it as CSV in UTF-8"


@dataclass(frozen=True)
class Shows:
    """What is known of an image before it is judged; None where nobody has said."""

    product: str | None = None
    camera: str | None = None


def is_image_list(path: Path) -> bool:
    """Whether a file that a person names is a list of images, by its extension."""
    return path.suffix.lower() == SUFFIX


def read_image_list(path: Path) -> dict[Path, Shows]:
    """The images of a list, in its order.

    Raises:
        UserError: the list cannot be read or names no image, an image does not exist or is named twice, or no file can
            have the name of a product or camera.
    """
    _, rows = read_table(path, "list of images", (IMAGE,), REMEDY, (PRODUCT, CAMERA))
    if not rows:
        raise UserError("the list of images has no row below its header", str(path), "add one row for each image")
    images: dict[Path, Shows] = {}
    for line, row in rows:
        if not row[IMAGE]:
            raise UserError(f"row {line} has no image", str(path), "fill it in, or remove the row")
        image = path.parent / listed_file(row[IMAGE], IMAGE, line, path)
        if image in images:
            raise UserError(f"row {line} names {row[IMAGE]} again", str(path), "remove one of the rows")
        images[image] = Shows(*part_names(row.get(PRODUCT), row.get(CAMERA), f"row {line}", str(path)))
    return images
