"""Which good images train, and which are held out for the threshold."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from flawmap.data.groups import Identity, by_image_if_few, identities
from flawmap.data.sample import NormalImage


def split_normals(
    images: Sequence[NormalImage], held_out_fraction: float, seed: int
) -> tuple[tuple[NormalImage, ...], tuple[NormalImage, ...]]:
    """Split into (train, held out) by a hash of the seed and each group; an image without one is its own group.

    No group is split, and the number of held-out images is as near to the wanted one as half of the smallest group that
    is left to train. Fewer than :data:`flawmap.data.groups.MIN_GROUPS` groups are split image by image. For any
    fraction above 0, at least one group is held out and at least one is left to train.

    The order of the images does not matter. Adding an image moves others to the other side only where the wanted number
    is reached: at most three times as many as the largest group has, and at most one where no image has a group.
    """
    if held_out_fraction <= 0:
        return tuple(images), ()
    groups = identities(by_image_if_few(images))
    wanted = min(max(1, round(len(images) * held_out_fraction)), max(0, len(images) - 1))
    held_out = _held_out_groups(Counter(groups), wanted, seed)
    sides: tuple[list[NormalImage], list[NormalImage]] = [], []
    for image, group in zip(images, groups, strict=True):
        sides[group in held_out].append(image)
    return tuple(sides[0]), tuple(sides[1])


def _held_out_groups(sizes: Mapping[Identity, int], wanted: int, seed: int) -> set[Identity]:
    """Groups that have about ``wanted`` images in all: in the order of their hashes those that fit.

    One more follows if it brings the number nearer to the wanted one, or if none fits.
    """
    ranked = sorted(sizes, key=lambda group: _rank(group, seed))
    held_out, missing = set[Identity](), wanted
    for group in ranked:
        if sizes[group] <= missing:
            held_out.add(group)
            missing -= sizes[group]
    others = [group for group in ranked if group not in held_out]
    if len(others) > 1:
        smallest = min(others, key=sizes.__getitem__)
        if not held_out or abs(missing - sizes[smallest]) < missing:
            held_out.add(smallest)
    return held_out


def _rank(group: Identity, seed: int) -> bytes:
    kind, name = group
    text = f"{seed}/{name}" if kind == "image" else f"{seed}/{kind}/{name}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()  # a name need not be UTF-8
