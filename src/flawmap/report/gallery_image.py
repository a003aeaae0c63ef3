"""What training makes of one normal image, as plain arrays: the report shows it and needs no torch for that."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GalleryDefect:
    """A simulated defect: uint8 image (s, s, 3), and bool footprint (s, s), True where pixels may have changed."""

    image: NDArray[np.uint8]
    footprint: NDArray[np.bool_]


@dataclass(frozen=True)
class GalleryImage:
    """One normal image with everything that training could do to it.

    Attributes:
        key: of the image in its data.
        pixels: uint8 (s, s, 3), at the size of training.
        attention: float32 (r, c), A^[CLS] on the patch grid.
        dropped: bool (r, c) by masking strategy; True = the student does not see the patch.
        simulated: by simulator.
    """

    key: str
    pixels: NDArray[np.uint8]
    attention: NDArray[np.float32]
    dropped: Mapping[str, NDArray[np.bool_]]
    simulated: Mapping[str, GalleryDefect]
