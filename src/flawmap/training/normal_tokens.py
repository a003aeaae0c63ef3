"""What one pass of the frozen encoder over the normal images gives: candidates for a memory, and attention."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flawmap.data.resize import resize_image
from flawmap.models.encoder import Encoder, mean_cls_attention
from flawmap.training.datasets import NormalImageSource, channels_first, normalise
from flawmap.training.device import Compute

MAX_CANDIDATES = 200_000  # tokens per block that a coreset is chosen from: bounds time and memory
BATCH_SIZE = 8


@dataclass(frozen=True)
class NormalTokens:
    """Of normal images, on the patch grid r x c.

    Attributes:
        candidates: (n, l, d) float16, tokens of l blocks, as many of each image.
        sources: (n,) the number of the image that each is of.
        attention: (images, r, c) A^[CLS] of each whole image.
    """

    candidates: Float[Tensor, "n l d"]
    sources: Int[Tensor, "n"]
    attention: Float[Tensor, "i r c"]


@torch.no_grad()
def encode_normals(
    encoder: Encoder,
    pixels: NormalImageSource,
    blocks: tuple[int, ...],
    relative: bool,
    size_px: int,
    compute: Compute,
    seed: int,
) -> NormalTokens:
    """Encode every image once, in fp32 as in detection.

    Args:
        encoder: frozen.
        pixels: normal images; each is resized to ``size_px``.
        blocks: whose tokens are wanted, 0 = first, ascending.
        relative: see :meth:`flawmap.models.encoder.Encoder.tokens_of`.
        size_px: side, a multiple of the patch size.
        compute: where.
        seed: of the places whose tokens are candidates, where there are more than ``MAX_CANDIDATES``.
    """
    encoder = encoder.eval().to(compute.device)
    rows, columns = encoder.grid(size_px, size_px)
    per_image = max(1, min(rows * columns, MAX_CANDIDATES // len(pixels)))
    generator = torch.Generator().manual_seed(seed)
    candidates, attention = [], []
    for start in range(0, len(pixels), BATCH_SIZE):
        chosen = range(start, min(start + BATCH_SIZE, len(pixels)))
        images = torch.stack([channels_first(resize_image(pixels[i], size_px, size_px)) for i in chosen])
        output = encoder(normalise(images.to(compute.device)), blocks=blocks)
        attention.append(mean_cls_attention(output).reshape(-1, rows, columns).cpu())
        for of_image in encoder.tokens_in(output, blocks, relative).cpu():
            places = torch.randperm(rows * columns, generator=generator)[:per_image]
            candidates.append(of_image[places].half())
    sources = torch.from_numpy(np.repeat(np.arange(len(pixels)), per_image))
    return NormalTokens(torch.cat(candidates), sources, torch.cat(attention))
