"""The training loop that the baselines share: steps until the budget is spent."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.engine.compute import Compute
from flawmap.errors import UserError
from flawmap.reproducibility import numpy_generator
from flawmap_bench.method import Budget


def train_until_spent(
    budget: Budget,
    optimizer: torch.optim.Optimizer,
    loss_of_step: Callable[[int], Tensor],
    rate_at: Callable[[float], float],
    compute: Compute,
) -> int:
    """Optimise until the budget is spent, at least one step.

    Args:
        budget: running already.
        optimizer: with its full learning rates.
        loss_of_step: the loss of a step, by its number; called under autocast where ``compute`` says bf16.
        rate_at: factor of the learning rates, by the spent share of the budget.
        compute: device and precision.

    Returns:
        the number of steps done.

    Raises:
        UserError: the loss is no longer a number.
    """
    full = [group["lr"] for group in optimizer.param_groups]
    step = 0
    while (share := budget.share(step)) < 1.0 or step == 0:
        for group, rate in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = rate * rate_at(share)
        with torch.autocast(compute.device, torch.bfloat16, enabled=compute.precision == "bf16"):
            loss = loss_of_step(step)
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {loss.item()} at step {step}", "", "try another seed or a larger image size")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    return step


def constant_rate(share: float) -> float:
    """No schedule."""
    return 1.0


def cosine_rate(share: float) -> float:
    """From 1 to 0 on half a cosine."""
    return float(0.5 * (1 + np.cos(np.pi * share)))


def drawn_images(pixels: NormalPixels, count: int, seed: int, *key: int | str) -> UInt8[np.ndarray, "b s s 3"]:
    """``count`` different images (with repeats only where there are fewer), by (seed, key) alone."""
    generator = numpy_generator(seed, "draw", *key)
    chosen = generator.choice(len(pixels), count, replace=count > len(pixels))
    return np.stack([pixels[int(index)] for index in chosen])


def as_tensor(images: Sequence[np.ndarray] | np.ndarray, device: str) -> Float[Tensor, "b 3 h w"]:
    """uint8 (b, h, w, 3) as floats in [0, 1], channels first."""
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(list(images))))
    return stacked.to(device).permute(0, 3, 1, 2).float() / 255
