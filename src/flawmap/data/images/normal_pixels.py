"""The pixels of good images at one size, decoded once and kept in memory if they fit."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage

MEMORY_LIMIT_BYTES = 3 * 1024**3


class NormalPixels:
    """Good images as uint8 (size, size, 3), by index.

    Args:
        images: to read.
        size_px: both sides after :func:`resize_image`.
        memory_limit_bytes: if the pixels need more, only the image that was read last is kept, and another one is read
            from its file again.

    Raises:
        UserError: a file cannot be decoded.
    """

    def __init__(
        self, images: Sequence[NormalImage], size_px: int, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    ) -> None:
        self._images = tuple(images)
        self.size_px = size_px
        self._kept: np.ndarray | None = None
        self._last: tuple[int, np.ndarray] | None = None
        if _num_bytes(images, size_px) <= memory_limit_bytes:
            (self._kept,) = _decoded_at(images, (size_px,))

    @classmethod
    def at_sizes(
        cls, images: Sequence[NormalImage], sizes_px: Sequence[int], memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    ) -> tuple["NormalPixels", ...]:
        """The same images at several sizes; each file is decoded once if all sizes fit in memory together."""
        if sum(_num_bytes(images, size_px) for size_px in sizes_px) > memory_limit_bytes:
            return tuple(cls(images, size_px, memory_limit_bytes) for size_px in sizes_px)
        several = tuple(cls(images, size_px, memory_limit_bytes=0) for size_px in sizes_px)  # nothing is kept yet
        for pixels, kept in zip(several, _decoded_at(images, sizes_px), strict=True):
            pixels._kept = kept
        return several

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        if self._kept is not None:
            return self._kept[index]
        if (last := self._last) is None or last[0] != index:
            last = index, resize_image(read_image(self._images[index].path), self.size_px, self.size_px)
            self._last = last
        return last[1]


def _num_bytes(images: Sequence[NormalImage], size_px: int) -> int:
    return len(images) * size_px * size_px * 3


def _decoded_at(images: Sequence[NormalImage], sizes_px: Sequence[int]) -> list[np.ndarray]:
    """All images at each size, uint8 (n, size, size, 3); each file is decoded once."""

    def read(image: NormalImage) -> list[np.ndarray]:
        pixels = read_image(image.path)
        return [resize_image(pixels, size_px, size_px) for size_px in sizes_px]

    at_sizes = [np.empty((len(images), size_px, size_px, 3), np.uint8) for size_px in sizes_px]
    with ThreadPoolExecutor(max_workers=2) as threads:
        for index, resized in enumerate(threads.map(read, images)):
            for kept, pixels in zip(at_sizes, resized, strict=True):
                kept[index] = pixels
    return at_sizes
