"""Fills a memory with the tokens of normal images that cover all of them best."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from flawmap.data.resize import resize_image
from flawmap.models.encoder import Encoder
from flawmap.scorers.coreset import greedy_coreset
from flawmap.scorers.patch_memory import PatchMemory
from flawmap.scorers.token_scorers import TokenScorerShape
from flawmap.training.datasets import NormalImageSource, channels_first, normalise
from flawmap.training.device import Compute

MAX_CANDIDATES = 200_000  # tokens per block that the coreset is chosen from: bounds time and memory
MAX_REFERENCE = 20_000  # of them that tell how far normal tokens are from those of other images
BATCH_SIZE = 8


@torch.no_grad()
def build_memory(
    encoder: Encoder,
    pixels: NormalImageSource,
    shape: TokenScorerShape,
    size_px: int,
    compute: Compute,
    seed: int,
) -> PatchMemory:
    """Encode every image once, in fp32 as in detection, and keep a coreset of each block's tokens.

    Args:
        encoder: frozen.
        pixels: normal images; each is resized to ``size_px``.
        shape: which blocks, whether relative, and how many tokens to keep; fewer where there are fewer.
        size_px: side, a multiple of the patch size.
        compute: where.
        seed: of the candidates and of the coreset.
    """
    encoder = encoder.eval().to(compute.device)
    candidates, sources = _candidates(encoder, pixels, shape, size_px, compute, seed)
    kept = min(shape.memory_tokens, len(sources))
    memory = PatchMemory(len(shape.blocks), kept, encoder.embed_dim).to(compute.device)
    for block in range(len(shape.blocks)):
        tokens = F.normalize(candidates[:, block].to(compute.device).float(), dim=-1)
        generator = torch.Generator().manual_seed(seed)
        chosen = greedy_coreset(tokens, kept, generator)
        memory.tokens[block] = tokens[chosen]
        memory.sources[block] = sources[chosen].to(memory.sources)
    memory.fit_spacing()
    reference = torch.linspace(0, len(sources) - 1, min(MAX_REFERENCE, len(sources))).long()
    _fit_scale(memory, candidates[reference], sources[reference])
    return memory


def _candidates(
    encoder: Encoder, pixels: NormalImageSource, shape: TokenScorerShape, size_px: int, compute: Compute, seed: int
) -> tuple[Float[Tensor, "n l d"], Int[Tensor, "n"]]:
    """Tokens, as many of each image, in fp16, and the number of the image that each is of."""
    rows, columns = encoder.grid(size_px, size_px)
    per_image = max(1, min(rows * columns, MAX_CANDIDATES // len(pixels)))
    generator = torch.Generator().manual_seed(seed)
    tokens = []
    for start in range(0, len(pixels), BATCH_SIZE):
        chosen = range(start, min(start + BATCH_SIZE, len(pixels)))
        images = torch.stack([channels_first(resize_image(pixels[i], size_px, size_px)) for i in chosen])
        encoded = encoder.tokens_of(normalise(images.to(compute.device)), shape.blocks, shape.relative).cpu()
        for of_image in encoded:
            places = torch.randperm(rows * columns, generator=generator)[:per_image]
            tokens.append(of_image[places].half())
    numbers = torch.from_numpy(np.repeat(np.arange(len(pixels)), per_image))
    return torch.cat(tokens), numbers


def _fit_scale(memory: PatchMemory, tokens: Float[Tensor, "n l d"], sources: Int[Tensor, "n"]) -> None:
    """Mean and deviation of normal tokens' spaced distances to the nearest token of another image."""
    spaced = []
    for chunk, of_chunk in zip(tokens.split(1024), sources.split(1024), strict=True):
        nearest = memory.nearest(chunk[:, None].float().to(memory.tokens), of_chunk.to(memory.sources))
        spaced.append((nearest.distances / nearest.spacing)[:, 0])
    memory.mean.copy_(torch.cat(spaced).mean(dim=0))
    memory.deviation.copy_(torch.cat(spaced).std(dim=0, correction=0).clamp(min=1e-6))
