"""What training tells the person who waits, and what it logs for later. Loads no heavy package."""

import json
import sys
from pathlib import Path
from typing import Any

from flawmap.reproducibility import atomic_write_text


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


def duration(seconds: float) -> str:
    """Seconds as people say them: 90 -> "1m30s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
