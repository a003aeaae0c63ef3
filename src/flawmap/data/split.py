"""Which good images train, and which are held out for the threshold."""

import hashlib
from collections.abc import Sequence

from flawmap.data.sample import NormalImage


def split_normals(
    images: Sequence[NormalImage], held_out_fraction: float, seed: int
) -> tuple[tuple[NormalImage, ...], tuple[NormalImage, ...]]:
    """Split into (train, held out) by a hash of the seed and each image's key.

    The order of the images does not matter, and adding an image moves at most one other to the other side. For any
    fraction above 0, at least one image is held out and at least one is left to train.
    """
    if held_out_fraction <= 0:
        return tuple(images), ()
    ranked = sorted(images, key=lambda image: _rank(image.key, seed))
    num_held_out = min(max(1, round(len(images) * held_out_fraction)), max(0, len(images) - 1))
    held_out = {image.key for image in ranked[:num_held_out]}
    return (
        tuple(image for image in images if image.key not in held_out),
        tuple(image for image in images if image.key in held_out),
    )


def _rank(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogateescape")).digest()  # a name need not be UTF-8
