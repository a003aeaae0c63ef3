"""Progress over images: rate and time left, on stderr."""

import sys
import time

from flawmap.engine.progress import duration

EVERY_SECONDS = 20.0  # if the output is not a terminal


class ProgressLine:
    """Call it with (done, total) after each image."""

    def __init__(self, label: str) -> None:
        self._label, self._started, self._printed = label, time.monotonic(), time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Print, unless the last line is too recent."""
        now = time.monotonic()
        interactive = sys.stderr.isatty()
        if now - self._printed < (0.2 if interactive else EVERY_SECONDS) and done != total:
            return
        self._printed = now
        rate = done / max(1e-9, now - self._started)
        line = (
            f"{self._label:<10} {done:>5}/{total} images  {rate:.1f} per second  {duration((total - done) / rate)} left"
        )
        print(f"{line:<80}", file=sys.stderr, end="\r" if interactive and done != total else "\n", flush=True)
