"""Tensors between host and device, with as little waiting as possible."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A tensor of the host on a device; with CUDA the host does not wait for the copy."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one type and device on the host, where they may be already."""
    return list(tensors) if tensors[0].device.type == "cpu" else in_one_copy(tensors)


def in_one_copy(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same, copied together: with each copy the host waits for all that the device has to compute."""
    together = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = together.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
