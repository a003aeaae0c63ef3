"""Fills a memory with the tokens of normal images that cover all of them best."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from flawmap.engine.compute import Compute
from flawmap.memory.coreset import greedy_coreset
from flawmap.memory.good_tokens import NormalTokens
from flawmap.memory.patch_memory import PatchMemory

MAX_REFERENCE = 20_000  # candidates that tell how far normal tokens are from those of other images


@torch.no_grad()
def build_memory(normal: NormalTokens, memory_tokens: int, compute: Compute, seed: int) -> PatchMemory:
    """Keep a coreset of each block's tokens.

    Args:
        normal: candidates of normal images.
        memory_tokens: how many to keep of each block; fewer where there are fewer.
        compute: where.
        seed: of the coreset.
    """
    candidates, sources = normal.candidates, normal.sources
    num_blocks, dim = candidates.shape[1:]
    kept = min(memory_tokens, len(sources))
    memory = PatchMemory(num_blocks, kept, dim).to(compute.device)
    for block in range(num_blocks):
        tokens = F.normalize(candidates[:, block].to(compute.device).float(), dim=-1)
        generator = torch.Generator().manual_seed(seed)
        chosen = greedy_coreset(tokens, kept, generator)
        memory.tokens[block] = tokens[chosen]
        memory.sources[block] = sources[chosen].to(memory.sources)
    memory.fit_spacing()
    reference = torch.linspace(0, len(sources) - 1, min(MAX_REFERENCE, len(sources))).long()
    _fit_scale(memory, candidates[reference], sources[reference])
    return memory


def _fit_scale(memory: PatchMemory, tokens: Float[Tensor, "n l d"], sources: Int[Tensor, "n"]) -> None:
    """Mean and deviation of normal tokens' spaced distances to the nearest token of another image."""
    spaced = []
    for chunk, of_chunk in zip(tokens.split(1024), sources.split(1024), strict=True):
        nearest = memory.nearest(chunk[:, None].float().to(memory.tokens), of_chunk.to(memory.sources))
        spaced.append((nearest.distances / nearest.spacing)[:, 0])
    memory.mean.copy_(torch.cat(spaced).mean(dim=0))
    memory.deviation.copy_(torch.cat(spaced).std(dim=0, correction=0).clamp(min=1e-6))
