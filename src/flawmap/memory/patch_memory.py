"""A memory of normal patch tokens: how far a token is from the nearest normal one, and which one that is."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from flawmap.memory.coreset import greedy_coreset

CHUNK = 1024  # tokens that are compared with the whole memory at once


@dataclass(frozen=True)
class Nearest:
    """The nearest normal token of each token, per block.

    Attributes:
        distances: 1 - cosine similarity, in [0, 2].
        tokens: the nearest normal tokens, of unit length.
        spacing: of the nearest normal tokens, see :class:`PatchMemory`.
    """

    distances: Float[Tensor, "b n l"]
    tokens: Float[Tensor, "b n l d"]
    spacing: Float[Tensor, "b n l"]


class PatchMemory(nn.Module):
    """Normal tokens of several blocks; each block has a memory of its own.

    Args:
        num_blocks: l.
        num_tokens: m, per block.
        dim: d of a token.

    Buffers:
        tokens: (l, m, d) of unit length.
        sources: (l, m) number of the training image that a token comes from, so that a training image can be judged
            without its own tokens.
        spacing: (l, m) how far a token lies from its nearest neighbours in the memory: the root of their mean distance
            in units of the block's mean. Where normal tokens lie far apart, a new one may be farther from all of them.
        mean, deviation: (l,) of normal tokens' distances, over the spacing, to the tokens of other images.
    """

    tokens: Float[Tensor, "l m d"]
    sources: Int[Tensor, "l m"]
    spacing: Float[Tensor, "l m"]
    mean: Float[Tensor, "l"]
    deviation: Float[Tensor, "l"]

    def __init__(self, num_blocks: int, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("tokens", torch.zeros(num_blocks, num_tokens, dim))
        self.register_buffer("sources", torch.zeros(num_blocks, num_tokens, dtype=torch.int32))
        self.register_buffer("spacing", torch.ones(num_blocks, num_tokens))
        self.register_buffer("mean", torch.zeros(num_blocks))
        self.register_buffer("deviation", torch.ones(num_blocks))

    # ---- scoring

    def nearest(
        self, tokens: Float[Tensor, "b n l d"], exclude: Int[Tensor, "b"] | None = None, precise: bool = True
    ) -> Nearest:
        """Look tokens up.

        Args:
            tokens: of any length.
            exclude: for each image, the number of the training image whose tokens do not count.
            precise: False lets autocast compute similarities in its own type. With three digits, the token that is
                found is nearest or as good as nearest, but distances are too coarse to be scores.
        """
        distances, nearest, spacing = [], [], []
        for block, memory in enumerate(self.tokens):  # (m, d)
            unit = F.normalize(tokens[:, :, block].float(), dim=-1)  # (b, n, d)
            if precise:
                with torch.autocast(tokens.device.type, enabled=False):
                    similarity = unit @ memory.T  # (b, n, m)
            else:
                similarity = unit @ memory.T  # (b, n, m)
            if exclude is not None:
                own = self.sources[block] == exclude[:, None]  # (b, m)
                similarity = similarity.masked_fill(own[:, None], -1.0)
            best, index = similarity.max(dim=-1)  # (b, n)
            distances.append(1 - best.float())
            nearest.append(memory[index])  # (b, n, d)
            spacing.append(self.spacing[block][index])
        return Nearest(torch.stack(distances, dim=2), torch.stack(nearest, dim=2), torch.stack(spacing, dim=2))

    def standardised(self, nearest: Nearest) -> Float[Tensor, "b n"]:
        """Mean over the blocks of spaced distances, in standard deviations of those of normal tokens."""
        return ((nearest.distances / nearest.spacing - self.mean) / self.deviation).mean(dim=-1)

    # ---- fitting

    @torch.no_grad()
    def choose(
        self, candidates: Float[Tensor, "n l d"], sources: Int[Tensor, "n"], projection_dim: int, seed: int
    ) -> None:
        """Keep a coreset of each block's candidates, as many as the memory holds.

        Args:
            candidates: tokens of good images.
            sources: number of the image that each comes from.
            projection_dim: see :func:`flawmap.memory.coreset.greedy_coreset`.
            seed: of the projection and the first pick.
        """
        for block in range(len(self.tokens)):
            tokens = F.normalize(candidates[:, block].to(self.tokens.device).float(), dim=-1)  # (n, d)
            generator = torch.Generator().manual_seed(seed)
            chosen = greedy_coreset(tokens, self.tokens.shape[1], generator, projection_dim)  # (m,)
            self.tokens[block] = tokens[chosen]
            self.sources[block] = sources[chosen].to(self.sources)

    @torch.no_grad()
    def fit_spacing(self, neighbours: int) -> None:
        """Measure how far each token of the memory lies from its nearest ``neighbours``."""
        for block, memory in enumerate(self.tokens):  # (m, d)
            count = min(neighbours, len(memory) - 1)
            if count == 0:
                continue
            # The nearest token of each is itself and is left out.
            distances = [1 - (chunk @ memory.T).topk(count + 1, dim=1).values[:, 1:] for chunk in memory.split(CHUNK)]
            mean = torch.cat(distances).mean(dim=1).clamp(min=1e-6)  # (m,)
            self.spacing[block] = (mean / mean.mean()).sqrt()

    @torch.no_grad()
    def fit_scale(self, tokens: Float[Tensor, "n l d"], sources: Int[Tensor, "n"]) -> None:
        """Measure mean and deviation of normal tokens' spaced distances to the nearest token of another image."""
        spaced = []
        for chunk, chunk_sources in zip(tokens.split(CHUNK), sources.split(CHUNK), strict=True):
            nearest = self.nearest(chunk[:, None].float().to(self.tokens), chunk_sources.to(self.sources))
            spaced.append((nearest.distances / nearest.spacing)[:, 0])  # (chunk, l)
        self.mean.copy_(torch.cat(spaced).mean(dim=0))
        self.deviation.copy_(torch.cat(spaced).std(dim=0, correction=0).clamp(min=1e-6))
