"""Tensors in safetensors files, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from flawmap.errors import UserError
from flawmap.reproducibility import written_beside


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, written atomically, without a copy of large tensors in memory."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_beside(path) as beside:
        save_file(contiguous, beside)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; large tensors are mapped into memory, and read when they are used.

    Raises:
        UserError: it is damaged.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own error type, or OSError
        raise UserError(f"the file is damaged: {error}", str(path), "delete it and run again") from error
