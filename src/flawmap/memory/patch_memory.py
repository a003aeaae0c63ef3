"""A memory of normal patch tokens: how far a token is from the nearest normal one, and which one that is."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Nearest:
    """The nearest normal token of each token.

    Attributes:
        distances: 1 - cosine similarity, in [0, 2].
        tokens: the nearest ones, of unit length.
        spacing: of the nearest ones, see :class:`PatchMemory`.
    """

    distances: Float[Tensor, "b n l"]
    tokens: Float[Tensor, "b n l d"]
    spacing: Float[Tensor, "b n l"]


class PatchMemory(nn.Module):
    """Normal tokens of several blocks, each block with a memory of its own.

    Args:
        num_blocks: l.
        num_tokens: m, per block.
        dim: d of a token.

    Buffers:
        tokens: (l, m, d) of unit length.
        sources: (l, m) the number of the training image that a token came from, so that while a head is trained an
            image is never compared with itself.
        spacing: (l, m) how far a token of the memory is from its nearest fellows: the root of their mean distance in
            units of the block's mean. Where normal tokens lie far apart, a new one may be further from all of them.
        mean, deviation: (l,) of normal tokens' distances, over the spacing, to the tokens of other images.
    """

    SPACING_NEIGHBOURS = 5

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

    def nearest(
        self, tokens: Float[Tensor, "b n l d"], exclude: Int[Tensor, "b"] | None = None, precise: bool = True
    ) -> Nearest:
        """Look tokens up.

        Args:
            tokens: of any length.
            exclude: for each image, the number of the training image whose tokens do not count.
            precise: False lets autocast compute similarities in its own type. With three digits, what is found is a
                nearest token or one just as near, but distances are too coarse to be scores.
        """
        distances, nearest, spacing = [], [], []
        for block, memory in enumerate(self.tokens):
            unit = F.normalize(tokens[:, :, block].float(), dim=-1)
            if precise:
                with torch.autocast(tokens.device.type, enabled=False):
                    similarity = unit @ memory.T  # (b, n, m)
            else:
                similarity = unit @ memory.T
            if exclude is not None:
                own = self.sources[block] == exclude[:, None]  # (b, m)
                similarity = similarity.masked_fill(own[:, None], -1.0)
            best, index = similarity.max(dim=-1)
            distances.append(1 - best.float())
            nearest.append(memory[index])
            spacing.append(self.spacing[block][index])
        return Nearest(torch.stack(distances, dim=2), torch.stack(nearest, dim=2), torch.stack(spacing, dim=2))

    def standardised(self, nearest: Nearest) -> Float[Tensor, "b n"]:
        """Mean over the blocks of spaced distances in standard deviations from what normal tokens have."""
        return ((nearest.distances / nearest.spacing - self.mean) / self.deviation).mean(dim=-1)

    @torch.no_grad()
    def fit_spacing(self) -> None:
        """Measure the spacing of the tokens that are there."""
        for block, memory in enumerate(self.tokens):
            fellows = min(self.SPACING_NEIGHBOURS, len(memory) - 1)
            if fellows == 0:
                continue
            distances = [1 - (chunk @ memory.T).topk(fellows + 1, dim=1).values[:, 1:] for chunk in memory.split(1024)]
            mean = torch.cat(distances).mean(dim=1).clamp(min=1e-6)  # of each token; the nearest to it is itself
            self.spacing[block] = (mean / mean.mean()).sqrt()
