"""Which patches the student does not see (Equations 3 and 4).

Every strategy gives a mask (b, n), True = dropped, with the same number of dropped patches per image, so that
what is kept can be gathered into one batch. To add a strategy: one function here, its line in :func:`patch_mask`
and its name in ``recipe.MaskingSettings.strategy``.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK_TRIES = 64  # blocks that are tried for one image before the rest is dropped patch by patch
MIN_BLOCK_ASPECT = 0.3  # height / width; at most 1 / 0.3
FOLLOW_ATTENTION = frozenset({"attention", "most_attended"})  # the strategies that need A^[CLS]


def patch_mask(
    strategy: str,
    grid: tuple[int, int],
    drop_ratio: float,
    generator: torch.Generator,
    cls_attention: Float[Tensor, "b n"] | None = None,
    num_images: int = 1,
) -> Bool[Tensor, "b n"]:
    """The mask of a strategy by its name in the recipe.

    Args:
        strategy: one of ``recipe.MaskingSettings.strategy``.
        grid: rows and columns of the patch grid.
        drop_ratio: r in [0, 1).
        generator: of strategies that are random.
        cls_attention: A^[CLS] of the unmasked views, for the strategies in :data:`FOLLOW_ATTENTION`.
        num_images: b, where no attention says it.

    Raises:
        ValueError: an unknown strategy, or one that follows the attention without any.
    """
    rows, columns = grid
    if strategy in FOLLOW_ATTENTION:
        if cls_attention is None:
            raise ValueError(f"the masking strategy {strategy} needs the attention of the images")
        of_attention = attention_patch_mask if strategy == "attention" else most_attended_patch_mask
        return of_attention(cls_attention, drop_ratio)
    if strategy == "random":
        return random_patch_mask(num_images, rows * columns, drop_ratio, generator)
    if strategy == "block":
        return block_patch_mask(num_images, rows, columns, drop_ratio, generator)
    if strategy == "none":
        return torch.zeros(num_images, rows * columns, dtype=torch.bool, device=generator.device)
    raise ValueError(f"there is no masking strategy {strategy!r}")


def num_dropped(num_patches: int, drop_ratio: float) -> int:
    """k = floor(r N) of Equation 3; at least one patch is kept."""
    return min(math.floor(drop_ratio * num_patches + 1e-9), num_patches - 1)


def attention_patch_mask(cls_attention: Float[Tensor, "b n"], drop_ratio: float) -> Bool[Tensor, "b n"]:
    """APMask: drop the k patches that [CLS] attends to least (M^Att of Equation 3, m^Att of Equation 4).

    Args:
        cls_attention: A^[CLS], head average of the unmasked view. Only its order matters; ties go to the
            earlier patch.
        drop_ratio: r in [0, 1).
    """
    k = num_dropped(cls_attention.shape[1], drop_ratio)
    ascending = cls_attention.argsort(dim=1, stable=True)  # the permutation pi of Equation 3
    return _mask_of(ascending[:, :k], cls_attention.shape[1])


def most_attended_patch_mask(cls_attention: Float[Tensor, "b n"], drop_ratio: float) -> Bool[Tensor, "b n"]:
    """The control to APMask: drop the k patches that [CLS] attends to most.

    Args:
        cls_attention: A^[CLS], head average of the unmasked view. Only its order matters; ties go to the
            earlier patch.
        drop_ratio: r in [0, 1).
    """
    k = num_dropped(cls_attention.shape[1], drop_ratio)
    descending = cls_attention.argsort(dim=1, descending=True, stable=True)
    return _mask_of(descending[:, :k], cls_attention.shape[1])


def random_patch_mask(
    num_images: int, num_patches: int, drop_ratio: float, generator: torch.Generator
) -> Bool[Tensor, "b n"]:
    """Drop as many patches as APMask, but uniformly at random, for each image on its own (Table 4)."""
    noise = torch.rand(num_images, num_patches, generator=generator, device=generator.device)
    return _mask_of(noise.argsort(dim=1)[:, : num_dropped(num_patches, drop_ratio)], num_patches)


def block_patch_mask(
    num_images: int, rows: int, columns: int, drop_ratio: float, generator: torch.Generator
) -> Bool[Tensor, "b n"]:
    """Drop rectangular blocks, as BEiT and iBOT do, for each image on its own.

    A block has at least (min(rows, columns) // 3)^2 patches where as many are still to be dropped, and an aspect
    that is log-uniform in 0.3 to 3.33. Blocks may overlap, but one that would drop too many is not taken. What no
    block fills is topped up by single patches at random, so that every image drops exactly k = floor(r N) of its
    N = rows * columns patches (BEiT and iBOT stop short of it) and what is kept can be gathered into one batch.

    Args:
        num_images: b.
        rows: of the patch grid; patches are counted row by row.
        columns: of the patch grid.
        drop_ratio: r in [0, 1).
        generator: the only source of randomness; the mask is on its device.
    """
    k = num_dropped(rows * columns, drop_ratio)
    draws = torch.rand(num_images, BLOCK_TRIES, 4, generator=generator, device=generator.device)
    blocks = torch.stack([_blocks(rows, columns, k, tries) for tries in draws.cpu()]).to(generator.device)
    noise = torch.rand(num_images, rows * columns, generator=generator, device=generator.device)
    blocks_first = (noise - blocks.flatten(1).float()).argsort(dim=1)  # blocks lie below 0, all others above
    return _mask_of(blocks_first[:, :k], rows * columns)


def _blocks(rows: int, columns: int, k: int, draws: Float[Tensor, "tries 4"]) -> Bool[Tensor, "rows columns"]:
    """One image's blocks, together at most k patches; each row of ``draws`` in [0, 1) makes one block."""
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    missing = k
    for area_draw, aspect_draw, top_draw, left_draw in draws.tolist():
        if missing == 0:
            break
        smallest = min((min(rows, columns) // 3) ** 2, missing)
        area = smallest + area_draw * (missing - smallest)
        aspect = MIN_BLOCK_ASPECT ** (2 * aspect_draw - 1)
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height > rows or width > columns:
            continue
        top, left = int(top_draw * (rows - height + 1)), int(left_draw * (columns - width + 1))
        block = mask[top : top + height, left : left + width]
        added = int((~block).sum())
        if added <= missing:
            block[:] = True
            missing -= added
    return mask


def kept_patches(mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b k"]:
    """Indices of the kept patches in row-major order; each row of ``mask`` must drop the same number."""
    num_kept = int((~mask[0]).sum())
    return mask.to(torch.uint8).argsort(dim=1, stable=True)[:, :num_kept]


def _mask_of(dropped: Int[Tensor, "b k"], num_patches: int) -> Bool[Tensor, "b n"]:
    mask = torch.zeros(len(dropped), num_patches, dtype=torch.bool, device=dropped.device)
    return mask.scatter(1, dropped, True)
