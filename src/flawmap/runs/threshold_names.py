"""Whose thresholds: a camera's, a product's, or a product's at one camera. One name says it, in files and records.

``left`` stands for a camera, ``screw@`` for a product at any camera, and ``screw@left`` for a product at one camera.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from flawmap.data.part_names import NAME
from flawmap.data.sample import NormalImage

FEWEST_IMAGES = 20  # good images that give a product or camera thresholds of its own
Name = str | None  # of a product or a camera; None where it is not named
SIGN = "@"  # between product and camera; no name of either has it
_NAME = re.compile(rf"{NAME}(?:{SIGN}(?:{NAME})?)?")
ThresholdsT = TypeVar("ThresholdsT")


def threshold_name(product: str | None, camera: str | None) -> str | None:
    """Whose thresholds; None for the default ones, where neither is named."""
    return camera if product is None else f"{product}{SIGN}{camera or ''}"


def product_in(name: str | None) -> str | None:
    """The product that a name is of; None where it is of a camera alone."""
    return name.partition(SIGN)[0] if name is not None and SIGN in name else None


def camera_in(name: str | None) -> str | None:
    """The camera that a name is of; None where it is of a product alone."""
    return name if name is None or SIGN not in name else name.partition(SIGN)[2] or None


def is_threshold_name(text: str) -> bool:
    """Whether a file can be named after it: not more than a safe name is asked for."""
    return bool(_NAME.fullmatch(text))


def whose(name: str | None) -> str:
    """For people, such as ``product screw, camera left``; empty for the default."""
    parts = ("product", product_in(name)), ("camera", camera_in(name))
    return ", ".join(f"{kind} {part}" for kind, part in parts if part)


def options_of(name: str | None) -> tuple[str, ...]:
    """The same as options of a command."""
    parts = ("--product", product_in(name)), ("--camera", camera_in(name))
    return tuple(word for option, part in parts if part for word in (option, part))


def nearest_name(name: str | None, known: Iterable[str]) -> str | None:
    """Whose thresholds judge where these have none of their own: the product's before the camera's; None: the default.

    Args:
        name: that was asked for.
        known: those that have thresholds.
    """
    if name is None:
        return None
    product, camera = product_in(name), camera_in(name)
    candidates = name, threshold_name(product, None), camera
    return next((one for one in candidates if one is not None and one in known), None)


def is_trained(name: str, trained: Iterable[str]) -> bool:
    """Whether training has seen the product and the camera of a name, be it in different images."""
    products, cameras = products_in(trained), {camera_in(one) for one in trained}
    product, camera = product_in(name), camera_in(name)
    return (product is None or product in products) and (camera is None or camera in cameras)


def products_in(names: Iterable[str]) -> tuple[str, ...]:
    """All products that names are of, sorted."""
    return tuple(sorted({product for name in names if (product := product_in(name)) is not None}))


def names_of(image: NormalImage) -> tuple[str, ...]:
    """All whose thresholds an image counts for: its product's, its camera's, and those of both together."""
    both = threshold_name(image.product, image.camera), threshold_name(image.product, None), image.camera
    return tuple(dict.fromkeys(name for name in both if name is not None))


def trained_names(images: Iterable[NormalImage]) -> Mapping[str, int]:
    """How many images there are of each product, of each camera, and of both together."""
    return dict(sorted(Counter(name for image in images for name in names_of(image)).items()))
