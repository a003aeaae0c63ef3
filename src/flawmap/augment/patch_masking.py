"""Which patches the student does not see (Equations 3 and 4).

Every strategy gives a mask (b, n), True = dropped, with the same number of dropped patches per image, so that
what is kept can be gathered into one batch. To add a strategy: one function here and its name in
``recipe.MaskingSettings.strategy``.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


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


def random_patch_mask(
    num_images: int, num_patches: int, drop_ratio: float, generator: torch.Generator
) -> Bool[Tensor, "b n"]:
    """Drop as many patches as APMask, but uniformly at random, for each image on its own (Table 4)."""
    noise = torch.rand(num_images, num_patches, generator=generator, device=generator.device)
    return _mask_of(noise.argsort(dim=1)[:, : num_dropped(num_patches, drop_ratio)], num_patches)


def kept_patches(mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b k"]:
    """Indices of the kept patches in row-major order; each row of ``mask`` must drop the same number."""
    num_kept = int((~mask[0]).sum())
    return mask.to(torch.uint8).argsort(dim=1, stable=True)[:, :num_kept]


def _mask_of(dropped: Int[Tensor, "b k"], num_patches: int) -> Bool[Tensor, "b n"]:
    mask = torch.zeros(len(dropped), num_patches, dtype=torch.bool, device=dropped.device)
    return mask.scatter(1, dropped, True)
