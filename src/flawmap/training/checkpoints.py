"""Checkpoints that survive a crash: written to a temporary file, synced, then renamed."""

import os
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file, save
from torch import Tensor

from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_bytes

SAVE_EVERY_SECONDS = 30.0


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint file, replaced in one step and read without executing anything."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` so that either the old or the new file exists, never a part."""
        temporary = Path(f"{path}.part")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, loc: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read with torch's ``weights_only`` reader."""
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise UserError(
                f"the checkpoint cannot be read: {str(error).splitlines()[0][:200]}",
                str(path),
                "delete this file to start the stage again",
            ) from error


class SaveEachEpoch(lightning.Callback):
    """Saves at the end of an epoch, but not more often than every ``every_seconds``.

    An epoch's end is the only place where nothing is in flight: random numbers, order and batches of the next
    epoch follow from its number, so that training resumed from here is the same training.
    """

    def __init__(self, path: Path, every_seconds: float = SAVE_EVERY_SECONDS) -> None:
        self._path, self._every_seconds = path, every_seconds
        self._saved_at = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save when the last save is long enough ago."""
        if time.monotonic() - self._saved_at >= self._every_seconds:
            trainer.save_checkpoint(self._path, weights_only=False)  # the optimizer's state, too
            self._saved_at = time.monotonic()


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file, written atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    atomic_write_bytes(path, save(contiguous))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: it is damaged.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own error type, or OSError
        raise UserError(f"the file is damaged: {error}", str(path), "delete it and run again") from error
