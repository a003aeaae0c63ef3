"""How images enter the encoder: as squares, channels first, normalised."""

from collections.abc import Iterator
from contextlib import closing
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.images.resize import resize_image
from flawmap.engine.cores import reading_threads
from flawmap.engine.in_order import PixelBudget, in_order
from flawmap.engine.transfer import to_device
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD

PIXELS_AHEAD = 200_000_000  # of squares that are read before they are needed: 600 MB


@runtime_checkable
class NormalImageSource(Protocol):
    """Good images by index, uint8 (h, w, 3), such as :class:`flawmap.data.images.normal_pixels.NormalPixels`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def normal_batches(
    pixels: NormalImageSource, size_px: int, batch_size: int, device: str
) -> Iterator[tuple[range, Float[Tensor, "b 3 s s"]]]:
    """All images in their order, resized to squares and normalised; each batch comes with the images' numbers.

    Threads read the next batches while the caller works on this one: one thread where a processor computes.
    """
    starts = range(0, len(pixels), batch_size)
    batches = [range(start, min(start + batch_size, len(pixels))) for start in starts]
    budget = PixelBudget(PIXELS_AHEAD)

    def read(number: int, chosen: range) -> UInt8[Tensor, "b 3 s s"]:
        budget.take(number, len(chosen) * size_px**2)
        return torch.stack([channels_first(resize_image(pixels[i], size_px, size_px)) for i in chosen])

    with closing(in_order(read, batches, reading_threads(device), budget)) as found:
        for chosen, images in zip(batches, found, strict=True):
            yield chosen, normalise(to_device(images, device))


def channels_first(image: np.ndarray) -> Tensor:
    """uint8 (h, w, 3) -> uint8 (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalise(images: Tensor) -> Float[Tensor, "*b 3 h w"]:
    """uint8 (..., 3, h, w) -> float32 with the mean and deviation that the encoder was trained with."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std


def unnormalised(images: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Values in [0, 1], from what :func:`normalise` gives."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    return images * std + mean
