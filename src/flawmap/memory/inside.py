"""Means over an image's patches in the region of interest, which each image may have fewer or more of."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def mean_inside(values: Float[Tensor, "b n *d"], inside: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b *d"]:
    """Mean over an image's patches inside.

    Args:
        values: of each patch.
        inside: True where a patch counts; at least one of each image. None: all count.
    """
    if inside is None:
        return values.mean(dim=1)
    weights = inside.to(values) / inside.sum(dim=1, keepdim=True)  # (b, n)
    return (values * weights.reshape(*weights.shape, *[1] * (values.dim() - 2))).sum(dim=1)


def top_mean(patches: Float[Tensor, "b n"], share: float, inside: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b"]:
    """Mean over the share of an image's patches inside that has the highest values, at least one patch."""
    if inside is None:
        count = max(1, round(share * patches.shape[1]))
        return patches.topk(count, dim=1).values.mean(dim=1)
    counts = (share * inside.sum(dim=1, keepdim=True)).round().clamp(min=1)  # (b, 1)
    highest = patches.masked_fill(~inside, -torch.inf).sort(dim=1, descending=True).values  # (b, n)
    is_top = torch.arange(patches.shape[1], device=patches.device) < counts  # (b, n)
    return highest.masked_fill(~is_top, 0.0).sum(dim=1) / counts[:, 0]


def smoothed(evidence: Float[Tensor, "b r c"], inside: Bool[Tensor, "b r c"] | None = None) -> Float[Tensor, "b r c"]:
    """Weighted mean over 3 x 3 patches, 1-2-1 in each direction; the border is repeated.

    Args:
        evidence: of each patch.
        inside: only these enter the means. The others get the lowest mean of their image, so that a map is nowhere
            higher outside than inside. None: all count.
    """
    if inside is None:
        return _blurred(evidence)
    weights = inside.to(evidence)
    mean = _blurred(evidence * weights) / torch.where(inside, _blurred(weights), 1.0)  # (b, r, c)
    lowest = mean.masked_fill(~inside, torch.inf).amin(dim=(1, 2), keepdim=True)  # (b, 1, 1)
    return torch.where(inside, mean, lowest)


def _blurred(values: Float[Tensor, "b r c"]) -> Float[Tensor, "b r c"]:
    kernel = values.new_tensor([0.25, 0.5, 0.25])
    padded = nn.functional.pad(values[:, None], (1, 1, 1, 1), mode="replicate")  # (b, 1, r + 2, c + 2)
    return nn.functional.conv2d(padded, torch.outer(kernel, kernel)[None, None])[:, 0]
