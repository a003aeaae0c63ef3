"""The pixels of good images at one size, decoded once and kept in memory if they fit."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import ImageReader, read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.roi import RegionOfInterest
from flawmap.data.sample import NormalImage

MEMORY_LIMIT_BYTES = 3 * 1024**3


class NormalPixels:
    """Good images as uint8 (size, size, 3), by index.

    Args:
        images: to read.
        size_px: both sides after :func:`resize_image`.
        memory_limit_bytes: if the pixels need more, only the image that was read last is kept, and another one is read
            from its file again.
        rois: of each image; outside of it, pixels get one colour. None keeps all.
        read: gives the pixels of a file, as :func:`read_image`.

    Attributes:
        originals_px: (n, 2) int32, height and width of the images that have been read, 0 of the others.

    Raises:
        UserError: a file cannot be decoded.
    """

    def __init__(
        self,
        images: Sequence[NormalImage],
        size_px: int,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        rois: Sequence[RegionOfInterest] | None = None,
        read: ImageReader = read_image,
    ) -> None:
        self._images, self._rois, self._read_image = tuple(images), rois, read
        self.size_px = size_px
        self.originals_px = np.zeros((len(images), 2), np.int32)
        self._kept: np.ndarray | None = None
        self._last: tuple[int, np.ndarray] | None = None
        if len(images) * size_px * size_px * 3 <= memory_limit_bytes:
            self._kept = np.empty((len(images), size_px, size_px, 3), np.uint8)
            with ThreadPoolExecutor(max_workers=2) as threads:
                for index, pixels in enumerate(threads.map(self._read, range(len(images)))):
                    self._kept[index] = pixels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        if self._kept is not None:
            return self._kept[index]
        if (last := self._last) is None or last[0] != index:
            last = self._last = index, self._read(index)
        return last[1]

    def inside(self, index: int) -> NDArray[np.bool_] | None:
        """The pixels (size, size) of an image in the region of interest; None: all."""
        return None if self._rois is None else self._rois[index].at(self.size_px, self.size_px)

    def _read(self, index: int) -> np.ndarray:
        pixels = self._read_image(self._images[index].path)
        if self._rois is not None:
            pixels = self._rois[index].with_grey_outside(pixels)
        self.originals_px[index] = pixels.shape[:2]
        return resize_image(pixels, self.size_px, self.size_px)
