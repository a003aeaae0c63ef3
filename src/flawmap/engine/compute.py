"""The device and precision to compute with, and the reason for the choice."""

from dataclasses import dataclass
from typing import Literal

import torch

from flawmap.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Compute:
    """A choice of device and precision.

    Attributes:
        device: a torch device type.
        precision: ``fp32`` or ``bf16`` (autocast).
        reason: for the choice; it is printed.
        devices: their number on each node.
        nodes: the number of machines.
    """

    device: str
    precision: Literal["fp32", "bf16"]
    reason: str
    devices: int = 1
    nodes: int = 1

    @property
    def processes(self) -> int:
        """One for each device of each node; of several, each takes its share of every batch."""
        return self.devices * self.nodes

    @property
    def lightning_precision(self) -> Literal["32-true", "bf16-mixed"]:
        """The same for Lightning's Trainer."""
        return "bf16-mixed" if self.precision == "bf16" else "32-true"


def choose_compute(
    device: DeviceName = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    devices: int = 1,
    encoder_precision: Literal["fp32", "int8"] = "fp32",
    nodes: int = 1,
) -> Compute:
    """Resolve ``auto``: CUDA, then Apple's MPS, then the processor; bf16 where the hardware computes in it.

    Args:
        device: as asked for.
        precision: of stages that train.
        devices: their number on each node.
        encoder_precision: of a frozen encoder; only processors compute in int8.
        nodes: the number of machines.

    Raises:
        UserError: a device that this torch build or machine does not have, or has fewer of; or int8 elsewhere than on
            the processor.
    """
    if encoder_precision == "int8":
        if device not in ("auto", "cpu"):
            problem = f"this model's encoder computes in int8, which --device {device} does not"
            raise UserError(problem, "--device", "--device cpu, or train in fp32 (compute.precision=auto)")
        device = "cpu"  # also where another device would be faster in fp32
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        chosen = next(name for name in ("cuda", "mps", "cpu") if available[name])
        why = f"{chosen} is the fastest device here" if chosen != "cpu" else "no CUDA device visible"
    elif available[device]:
        chosen, why = device, "as asked"
    else:
        has_cuda_build = torch.version.cuda is not None
        cause = "this torch build has no CUDA support" if device == "cuda" and not has_cuda_build else "none is visible"
        raise UserError(
            f"--device {device}, but {cause}", "--device", "install a matching torch build, or --device cpu"
        )
    if chosen == "cuda":
        compute_exactly()
    visible = torch.cuda.device_count() if chosen == "cuda" else 1
    if devices > visible:
        found = f"{visible} {chosen} device{'s are' if visible != 1 else ' is'} visible"
        raise UserError(
            f"{devices} devices are asked for, "
            + ("but a processor is one device, and its cores share the work already" if chosen == "cpu" else found),
            "compute.devices",
            f"--set compute.devices={visible}",
        )
    if precision == "auto":
        fast = _computes_in_bf16(chosen)
        precision, why = ("bf16", f"{why}; it computes in bf16") if fast else ("fp32", why)
    return Compute(chosen, precision, why, devices, nodes)


def compute_exactly() -> None:
    """Let CUDA round as the processor does: detection promises fp32, on which thresholds rest.

    cuDNN would convolve in TF32, and another package may have allowed it for products. Sums of bf16 products are
    rounded once, at their end, on which the bound of the memory's search rests.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def _computes_in_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.cpu._is_avx512_bf16_supported()
