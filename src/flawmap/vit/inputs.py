"""How images enter the encoder: as squares, channels first, normalised."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.images.resize import resize_image
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD


@runtime_checkable
class NormalImageSource(Protocol):
    """Good images by index, uint8 (h, w, 3), such as :class:`flawmap.data.images.normal_pixels.NormalPixels`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def normal_batches(
    pixels: NormalImageSource, size_px: int, batch_size: int, device: str
) -> Iterator[tuple[range, Float[Tensor, "b 3 s s"]]]:
    """All images in their order, resized to squares and normalised; each batch comes with the images' numbers."""

    def read(start: int) -> tuple[range, UInt8[Tensor, "b 3 s s"]]:
        chosen = range(start, min(start + batch_size, len(pixels)))
        return chosen, torch.stack([channels_first(resize_image(pixels[i], size_px, size_px)) for i in chosen])

    with ThreadPoolExecutor(max_workers=1) as ahead:  # reads the next batch while the caller works on this one
        pending = ahead.submit(read, 0)
        for start in range(batch_size, len(pixels) + batch_size, batch_size):
            chosen, images = pending.result()
            if start < len(pixels):
                pending = ahead.submit(read, start)
            yield chosen, normalise(images.to(device))


def channels_first(image: np.ndarray) -> Tensor:
    """uint8 (h, w, 3) -> uint8 (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalise(images: Tensor) -> Float[Tensor, "*b 3 h w"]:
    """uint8 (..., 3, h, w) -> float32 with the mean and deviation that the encoder was trained with."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std
