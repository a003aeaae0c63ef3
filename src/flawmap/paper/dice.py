"""Dice loss for the anomaly map."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.paper.clusters import gather_batch

SMOOTHING = 1.0  # keeps the ratio finite for empty masks


def dice_loss(
    prediction: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], over: Literal["batch", "image"] = "batch"
) -> Float[Tensor, ""]:
    """L_seg = 1 - (2 sum(Y_hat Y) + s) / (sum(Y_hat) + sum(Y) + s).

    Args:
        prediction: probabilities in [0, 1].
        target: footprints, 0 or 1 (soft targets in [0, 1] are fine).
        over: ``batch`` takes the sums over all images, so that normal images push the map down; ``image`` is the
            mean of per-image losses, where a normal image pushes only weakly once its map is nearly empty.
            Under distributed training the batch is that of all processes.
    """
    axes = (0, 1, 2) if over == "batch" else (1, 2)
    prediction, target = prediction.float(), target.float()
    sums = torch.stack([(prediction * target).sum(dim=axes), prediction.sum(dim=axes) + target.sum(dim=axes)])
    intersection, total = sums_of_all(sums) if over == "batch" else sums
    return (1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)).mean()


def sums_of_all(own: Float[Tensor, "k"]) -> Float[Tensor, "k"]:
    """Sums over all processes, given those of this one.

    The gradient is that of this process's part times the number of processes: averaged over them, as distributed
    training does, it is the gradient of the whole.
    """
    of_all = gather_batch(own.detach()[None])
    return of_all.sum(dim=0) + len(of_all) * (own - own.detach())
