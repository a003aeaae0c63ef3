"""InTra's network: transformer blocks with long skips, between a window of patches and the one that is missing."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class InpaintingTransformer(nn.Module):
    """Paints one missing patch of a window.

    Args:
        patch_values: numbers per patch.
        width: D of a token.
        blocks: of the transformer.
        heads: of each block's attention.
        places: patches of the whole image, each with a learned position.
    """

    def __init__(self, patch_values: int, width: int, blocks: int, heads: int, places: int) -> None:
        super().__init__()
        self.embed, self.paint = nn.Linear(patch_values, width), nn.Linear(width, patch_values)
        self.positions = nn.Parameter(0.02 * torch.randn(places, width))
        self.hole = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, patches: Float[Tensor, "b n v"], places: Int[Tensor, "b n"], missing: Int[Tensor, "b"]
    ) -> Float[Tensor, "b v"]:
        """The missing patches.

        Args:
            patches: of each window; the values of the missing one are not used.
            places: numbers of the patches in the whole image.
            missing: which of the n is.
        """
        is_missing = torch.arange(patches.shape[1], device=patches.device) == missing[:, None]
        x = torch.where(is_missing[..., None], self.hole, self.embed(patches)) + self.positions[places]
        outputs: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            if number > len(self.blocks) / 2:  # a block of the second half also sees what one of the first gave
                x = x + outputs[len(self.blocks) - number]
            x = block(x)
            outputs.append(x)
        return self.paint(self.norm(x).mean(dim=1))


class _Block(nn.Module):
    """Attention whose queries and keys come from a small network and values from a linear one, then an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys = _narrowing(width), _narrowing(width)
        self.values, self.mix = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        q, k, v = (
            net(normed).unflatten(2, (self.heads, -1)).transpose(1, 2) for net in (self.queries, self.keys, self.values)
        )
        x = x + self.mix(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def _narrowing(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width // 2))
