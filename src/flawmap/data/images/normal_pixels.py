"""The pixels of normal images at one size, decoded once and kept in memory where they fit."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage

MEMORY_LIMIT_BYTES = 3 * 1024**3


class NormalPixels:
    """Normal images as uint8 (size, size, 3), by index.

    Args:
        images: what to read.
        size_px: both sides after :func:`resize_image`.
        memory_limit_bytes: above this, images are read again each time instead of being kept.
    """

    def __init__(
        self, images: Sequence[NormalImage], size_px: int, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    ) -> None:
        self._images = tuple(images)
        self.size_px = size_px
        self._kept: np.ndarray | None = None
        if len(self._images) * size_px * size_px * 3 <= memory_limit_bytes:
            self._kept = np.empty((len(self._images), size_px, size_px, 3), np.uint8)
            with ThreadPoolExecutor(max_workers=2) as pool:
                for index, pixels in enumerate(pool.map(self._read, range(len(self._images)))):
                    self._kept[index] = pixels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._read(index) if self._kept is None else self._kept[index]

    def _read(self, index: int) -> np.ndarray:
        return resize_image(read_image(self._images[index].path), self.size_px, self.size_px)
