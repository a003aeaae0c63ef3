"""Dice loss for the anomaly map."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

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
    """
    axes = (0, 1, 2) if over == "batch" else (1, 2)
    prediction, target = prediction.float(), target.float()
    intersection = (prediction * target).sum(dim=axes)
    total = prediction.sum(dim=axes) + target.sum(dim=axes)
    return (1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)).mean()
