"""Which product an image shows, and which camera took it: what thresholds differ by.

They are no groups: images of one product may be on both sides of a split. An image of a test has them among its strata.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeVar

from flawmap.data.groups import FOLDER, group_in
from flawmap.data.part_names import is_part_name, usable_name, wrong_with
from flawmap.data.sample import LabelledImage, NormalImage
from flawmap.errors import UserError

PRODUCT, CAMERA = "product", "camera"  # columns of a manifest, and strata
SETTING = "data.product_by"
ImageT = TypeVar("ImageT", NormalImage, LabelledImage)


def part_names(product: str | None, camera: str | None, where: str, place: str) -> tuple[str | None, str | None]:
    """Names of a product and a camera as files have them; None for an empty one.

    Args:
        product, camera: as written.
        where: such as ``row 7``.
        place: for errors.

    Raises:
        UserError: no file can have such a name.
    """
    for kind, name in ((PRODUCT, product), (CAMERA, camera)):
        if name and not is_part_name(name):
            problem = f"{where} has the {kind} {name!r}{wrong_with(name)}"
            raise UserError(problem, place, f"write {usable_name(name, kind)}")
    return product or None, camera or None


def with_products(images: Sequence[ImageT], product_by: str | None, place: str) -> tuple[ImageT, ...]:
    """The images with the products that ``data.product_by`` says; None keeps those that the data names.

    Args:
        images: good images, or images of a test.
        product_by: ``folder`` for the first folder of the image's key, which of several locations is their name, or a
            pattern of file names with ``{product}``.
        place: for errors.

    Raises:
        UserError: some images have a product and others have none, so that nobody knows what these show; or no file can
            have a product's name.
    """
    found = tuple(images) if product_by is None else tuple(_with(image, product_by, place) for image in images)
    if product_by is None:
        refuse_without_product(found, place)
    elif without := [image.key for image in found if image.product is None]:
        problem = f"{SETTING}={product_by} gives {len(without)} of {len(found)} images no product, first: {without[0]}"
        remedy = "put each product into a folder of its own, or choose a pattern that fits all names"
        raise UserError(problem, place, remedy)
    return found


def refuse_without_product(images: Sequence[NormalImage | LabelledImage], place: str = "") -> None:
    """Raises: UserError: some images have a product and others have none, so that nobody knows what these show."""
    without = [image.key for image in images if image.product is None]
    if 0 < len(without) < len(images):
        problem = f"{len(without)} of {len(images)} images have no product, first: {without[0]}"
        remedy = "name the product of each image or of none: in the column product of a manifest, or with "
        raise UserError(problem, place, f"{remedy}--set {SETTING}=folder")


def _with(image: ImageT, product_by: str, place: str) -> ImageT:
    product = _product_of(image.key, product_by)
    part_names(product, None, image.key, place)
    if isinstance(image, NormalImage):
        return replace(image, product=product)
    return replace(image, strata={**image.strata, PRODUCT: product} if product else image.strata)


def _product_of(key: str, product_by: str) -> str | None:
    if product_by == FOLDER:
        parts = PurePosixPath(key).parts
        return parts[0] if len(parts) > 1 else None
    return group_in(key, product_by.replace("{product}", "{group}"))
