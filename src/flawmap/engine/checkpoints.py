"""Checkpoints that survive a crash: written to a temporary file, synced and renamed."""

import io
import os
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from flawmap.engine.processes import count, from_first
from flawmap.engine.stage import SAVE_EVERY_SECONDS
from flawmap.errors import UserError

KEY = "stage_key"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint file, replaced in one step and read without executing anything.

    Args:
        key: of the stage; a checkpoint of a stage with another key is refused, because what it holds was computed
            from other data, weights or settings.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` so that either the old or the new file exists, never a part."""
        temporary = Path(f"{path}.part")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({**checkpoint, KEY: self._key}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, loc: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read with torch's ``weights_only`` reader; of several processes, the first one reads the file for all.

        Raises:
            UserError: the file is damaged, holds something that would be executed, or is another stage's.
        """
        source = path if count() == 1 else io.BytesIO(from_first(Path(path).read_bytes))
        try:
            checkpoint = torch.load(source, map_location=map_location, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"the checkpoint cannot be read: {reason[:200]}",
                str(path),
                "delete this file to start the stage again",
            ) from error
        if not isinstance(checkpoint, dict) or checkpoint.pop(KEY, None) != self._key:
            raise UserError(
                "the checkpoint was made from other data, weights or settings, or on another device",
                str(path),
                "delete this file to start the stage again, or train without --resume",
            )
        return checkpoint


class SaveNowAndThen(lightning.Callback):
    """Saves between two steps, but not more often than every ``every_seconds``.

    Before a step nothing is in flight: its batch and its random numbers follow from its number.
    """

    def __init__(self, path: Path, every_seconds: float = SAVE_EVERY_SECONDS) -> None:
        self._path, self._every_seconds = path, every_seconds
        self._saved_at = time.monotonic()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save when the last save is long enough ago. (After a step, Lightning calls us before the module.)"""
        due = time.monotonic() - self._saved_at >= self._every_seconds
        if trainer.strategy.broadcast(due):  # all processes save or none: the clock of the first one counts
            trainer.save_checkpoint(self._path, weights_only=False)  # the optimizer's state, too
            self._saved_at = time.monotonic()
