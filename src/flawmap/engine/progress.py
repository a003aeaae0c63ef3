"""What training tells the person who waits, and what it writes for the one who looks later."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning

from flawmap.engine.duration import duration
from flawmap.reproducibility import atomic_write_text

PRINT_EVERY_SECONDS = 20.0  # where the output is no terminal


def say(label: str, text: str) -> None:
    """One line of progress on stderr, with the aligned label of the command line's output."""
    print(f"{label:<10} {text}", file=sys.stderr, flush=True)


class LogFile:
    """log.jsonl: one JSON object per line, appended and flushed at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, stage: str, step: int) -> None:
        """Drop records of ``stage`` from ``step`` on: a resumed stage writes them again."""
        if not self._path.exists():
            return
        kept = [record for record in self._records() if record.get("stage") != stage or record.get("step", -1) < step]
        atomic_write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))

    def last(self, stage: str) -> dict[str, Any]:
        """The last record of ``stage``; empty where there is none."""
        records = self._records() if self._path.exists() else []
        return next((record for record in reversed(records) if record.get("stage") == stage), {})

    def _records(self) -> list[dict[str, Any]]:
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]  # the last line may be torn


class StageProgress(lightning.Callback):
    """Prints progress with the time left and logs the module's ``record`` of every step.

    Args:
        stage: ``pretrain``, ``finetune`` or ``residual``.
        log: where records go.
        describe: turns a record into the words that are printed.
        steps_per_epoch: for the epoch's number in the log.
    """

    def __init__(
        self, stage: str, log: LogFile, describe: Callable[[dict[str, float]], str], steps_per_epoch: int
    ) -> None:
        self._stage, self._log, self._describe = stage, log, describe
        self._steps_per_epoch = steps_per_epoch
        self._started = self._printed = time.monotonic()
        self._first_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and forget what an interrupted run logged beyond its checkpoint."""
        self._started, self._first_step = time.monotonic(), trainer.global_step
        if trainer.is_global_zero:
            self._log.forget_after(self._stage, self._first_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log this step; print now and then."""
        if not trainer.is_global_zero:
            return
        step, total = trainer.global_step, int(trainer.max_steps)
        record: dict[str, float] = getattr(pl_module, "record", {})
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._log.write(
            {
                "stage": self._stage,
                "step": step - 1,
                "epoch": (step - 1) // self._steps_per_epoch,
                "steps": total,
                **record,
                "learning_rate": rate,
            }
        )
        now = time.monotonic()
        interactive = sys.stderr.isatty()
        if now - self._printed < (0.2 if interactive else PRINT_EVERY_SECONDS) and step != total:
            return
        self._printed = now
        seconds_left = (now - self._started) / max(1, step - self._first_step) * (total - step)
        line = f"{self._stage:<10} step {step:>5}/{total}  {self._describe(record)}  {duration(seconds_left)} left"
        end = "\r" if interactive and step != total else "\n"
        print(f"{line:<110}", file=sys.stderr, end=end, flush=True)
