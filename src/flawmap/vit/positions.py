"""Positional embeddings at any grid size: one way to resize them, used everywhere."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def resize_positions(
    positions: Float[Tensor, "1 n d"], native_grid: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "1 m d"]:
    """Resize patch positions from ``native_grid`` to ``grid`` (rows, columns), row-major.

    Bicubic without antialiasing. DINO itself scales by ``(g + 0.1) / g_native`` and timm antialiases; both
    give other values away from the native grid. The native grid is returned unchanged.
    """
    if grid == native_grid:
        return positions
    rows, columns = native_grid
    as_image = positions.reshape(1, rows, columns, -1).permute(0, 3, 1, 2).float()
    resized = F.interpolate(as_image, size=grid, mode="bicubic", antialias=False, align_corners=False)
    return resized.permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1).to(positions.dtype)


def round_to_patches(size_px: int, patch_size_px: int) -> int:
    """The multiple of ``patch_size_px`` nearest to ``size_px`` (at least one patch): 96 px is 98 for patch 14."""
    return max(1, int(size_px / patch_size_px + 0.5)) * patch_size_px


def split_positions(
    pos_embed: Float[Tensor, "1 n d"], num_patches: int
) -> tuple[Float[Tensor, "1 p d"] | None, Float[Tensor, "1 m d"]]:
    """Split into the positions of the prefix tokens (None when the model has none) and of the patches."""
    num_prefix = pos_embed.shape[1] - num_patches
    prefix = pos_embed[:, :num_prefix] if num_prefix else None
    return prefix, pos_embed[:, num_prefix:]


def kept_positions(tokens: Float[Tensor, "b n d"], keep: torch.Tensor) -> Float[Tensor, "b k d"]:
    """Gather the tokens with indices ``keep`` (b, k): the same number is kept of every image."""
    return tokens.gather(1, keep.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
