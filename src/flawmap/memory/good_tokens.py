"""What one pass of the frozen encoder over the normal images gives to all that is made of their tokens."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flawmap.engine.compute import Compute
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.inputs import NormalImageSource, normal_batches

MAX_CANDIDATES = 200_000  # tokens per block that a coreset is chosen from: bounds time and memory
MAX_REFERENCE_IMAGES = 1_000  # that tell what is normal for an image of like appearance: bounds time
MAX_REFERENCE_TOKENS = 256_000  # of them, per block: bounds memory, 200 MB for each block of 384 entries
BATCH_SIZE = 8


@dataclass(frozen=True)
class NormalTokens:
    """Of normal images, on the patch grid r x c; tokens in float16, of l blocks.

    Attributes:
        candidates: (n, l, d) for a memory, as many of each image.
        sources: (n,) the number of the image that each is of.
        attention: (images, r, c) A^[CLS] of each whole image.
        references: (k,) numbers of the images that tell what is normal, evenly from all.
        reference_cls: (k, d) their [CLS] tokens.
        reference_tokens: (k, r c, l, d) all their tokens.
    """

    candidates: Float[Tensor, "n l d"]
    sources: Int[Tensor, "n"]
    attention: Float[Tensor, "i r c"]
    references: Int[Tensor, "k"]
    reference_cls: Float[Tensor, "k d"]
    reference_tokens: Float[Tensor, "k p l d"]


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
        relative: see :meth:`flawmap.vit.encoder.Encoder.tokens_of`.
        size_px: side, a multiple of the patch size.
        compute: where.
        seed: of the places whose tokens are candidates, where there are more than ``MAX_CANDIDATES``.
    """
    encoder = encoder.eval().to(compute.device)
    (rows, columns), count = encoder.grid(size_px, size_px), len(pixels)
    patches = rows * columns
    per_image = max(1, min(patches, MAX_CANDIDATES // count))
    num_references = min(count, MAX_REFERENCE_IMAGES, max(1, MAX_REFERENCE_TOKENS // patches))
    references = torch.linspace(0, count - 1, num_references).long()
    place_of = {int(number): place for place, number in enumerate(references)}
    reference_tokens = torch.empty(num_references, patches, len(blocks), encoder.embed_dim, dtype=torch.float16)
    reference_cls = torch.empty(num_references, encoder.embed_dim)
    generator = torch.Generator().manual_seed(seed)
    all_in_references = per_image == patches and num_references == count
    candidates, attention = [], []
    for chosen, images in normal_batches(pixels, size_px, BATCH_SIZE, compute.device):
        output = encoder(images, blocks=blocks)
        attention.append(mean_cls_attention(output).reshape(-1, rows, columns).cpu())
        tokens, cls = encoder.tokens_in(output, blocks, relative).half().cpu(), output.cls.float().cpu()
        for number, of_image, cls_of_image in zip(chosen, tokens, cls, strict=True):
            if (place := place_of.get(number)) is not None:
                reference_tokens[place], reference_cls[place] = of_image, cls_of_image
            if not all_in_references:
                candidates.append(of_image[torch.randperm(patches, generator=generator)[:per_image]])
    return NormalTokens(
        # few images give all their tokens to both, and need not give them twice
        candidates=reference_tokens.flatten(0, 1) if all_in_references else torch.cat(candidates),
        sources=torch.from_numpy(np.repeat(np.arange(count), per_image)),
        attention=torch.cat(attention),
        references=references,
        reference_cls=reference_cls,
        reference_tokens=reference_tokens,
    )
