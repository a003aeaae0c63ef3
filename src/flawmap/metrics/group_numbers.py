"""Groups of images (of one patient, part, board or lot) as numbers, where images are no independent evidence."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Groups = Sequence[str | None]  # one entry per image; None: the image is a group of its own


def group_numbers(groups: Groups | None, n: int) -> NDArray[np.intp]:
    """(n,) the number of each image's group, from 0 in the order in which groups appear.

    Args:
        groups: of length n; None where no image has one.
        n: number of images.

    Raises:
        ValueError: there are not as many entries as images.
    """
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} images")
    numbers: dict[tuple[str, str | int], int] = {}
    places = (("image", i) if group is None else ("group", group) for i, group in enumerate(groups))
    return np.array([numbers.setdefault(place, len(numbers)) for place in places], np.intp)
