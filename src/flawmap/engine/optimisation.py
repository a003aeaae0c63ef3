"""Parameter groups, rates and gradient clipping."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from flawmap.errors import UserError


def decay_groups(modules: Iterable[nn.Module], weight_decay: float) -> list[dict]:
    """Two AdamW groups: matrices, which decay, and biases, norms and scales, which do not (DINO)."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay, "decays": True, "rate": 1.0},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "decays": False, "rate": 1.0},
    ]


def set_rates(optimizers: object, learning_rate: float, weight_decay: float | None = None) -> None:
    """Set every group's learning rate to ``learning_rate`` times its ``rate``, and the decay where it decays."""
    assert isinstance(optimizers, torch.optim.Optimizer) or hasattr(optimizers, "param_groups")
    for group in optimizers.param_groups:  # pyright: ignore[reportAttributeAccessIssue]
        group["lr"] = learning_rate * group["rate"]
        if weight_decay is not None and group["decays"]:
            group["weight_decay"] = weight_decay


def clip_each_gradient(optimizer: torch.optim.Optimizer, max_norm: float) -> None:
    """Scale down each tensor's gradient whose norm is above ``max_norm``."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for gradient in gradients:
        gradient.mul_((max_norm / (gradient.norm() + 1e-6)).clamp(max=1.0))


def check_finite(loss: Tensor, stage: str, step: int) -> None:
    """Raises: UserError: the loss is not finite. The last checkpoint is kept."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UserError(
            f"the loss is {value} at step {step}",
            f"stage {stage}",
            f"lower {stage}.learning_rate, or --set compute.precision=fp32; the last checkpoint was kept",
        )
