"""Positional embeddings at any grid size."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def resize_positions(
    positions: Float[Tensor, "1 n d"], native_grid: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "1 m d"]:
    """Resize patch positions, row-major, from ``native_grid`` to ``grid``, both (rows, columns).

    Bicubic without antialiasing; positions on the native grid are returned as they are. On other grids the values
    differ from DINO's own, which scales by ``(g + 0.1) / g_native``, and from timm's, which antialiases.
    """
    if grid == native_grid:
        return positions
    rows, columns = native_grid
    as_image = positions.reshape(1, rows, columns, -1).permute(0, 3, 1, 2).float()  # (1, d, rows, columns)
    resized = F.interpolate(as_image, size=grid, mode="bicubic", antialias=False, align_corners=False)
    return resized.permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1).to(positions.dtype)  # (1, m, d)


def round_to_patches(size_px: int, patch_size_px: int) -> int:
    """The multiple of ``patch_size_px`` nearest to ``size_px`` (at least one patch): 96 px is 98 for patch 14."""
    return max(1, int(size_px / patch_size_px + 0.5)) * patch_size_px
