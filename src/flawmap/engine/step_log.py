"""The record of each training step in the run's log, and a line now and then for the person who waits."""

import sys
import time
from collections.abc import Callable, Mapping

from flawmap.engine.loggers import NO_LOGGERS, Loggers
from flawmap.engine.progress import duration
from flawmap.runs.training_log import LogFile

PRINT_EVERY_SECONDS = 20.0  # where the output is not a terminal


class StepLog:
    """Logs every step of a stage.

    Args:
        stage: its name.
        log: of the run; what an interrupted training logged from ``first_step`` on is forgotten.
        total_steps: of the stage.
        describe: turns a record into the words that are printed.
        first_step: 0, or where a resumed stage goes on.
        steps_per_epoch: for the epoch's number; None: the stage is one epoch.
        loggers: get the numbers of each step, too.
    """

    def __init__(
        self,
        stage: str,
        log: LogFile,
        total_steps: int,
        describe: Callable[[Mapping[str, float]], str],
        first_step: int = 0,
        steps_per_epoch: int | None = None,
        loggers: Loggers = NO_LOGGERS,
    ) -> None:
        self._stage, self._log, self._describe = stage, log, describe
        self._total_steps, self._first_step = total_steps, first_step
        self._steps_per_epoch = steps_per_epoch or total_steps
        self._loggers = loggers
        self._started = self._printed = time.monotonic()
        log.forget_after(stage, first_step)

    def write(self, step: int, record: Mapping[str, float], learning_rate: float) -> None:
        """Log a step, counted from 0; print it if it is the last one or if the last line is long enough ago."""
        total = self._total_steps
        about = {"stage": self._stage, "step": step, "epoch": step // self._steps_per_epoch, "steps": total}
        self._log.write({**about, **record, "learning_rate": learning_rate})
        self._loggers.metrics({**record, "learning_rate": learning_rate}, step, self._stage)
        now, is_last = time.monotonic(), step + 1 == total
        interactive = sys.stderr.isatty()
        if now - self._printed < (0.2 if interactive else PRINT_EVERY_SECONDS) and not is_last:
            return
        self._printed = now
        left = duration((now - self._started) / (step + 1 - self._first_step) * (total - step - 1))
        line = f"{self._stage:<10} step {step + 1:>5}/{total}  {self._describe(record)}  {left} left"
        print(f"{line:<110}", file=sys.stderr, end="\r" if interactive and not is_last else "\n", flush=True)
