"""log.jsonl: one JSON object per training step, and what it says about stage 1."""

import json
from pathlib import Path
from typing import Any

from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_text

# Stage 1 has collapsed when its targets are uniform over the last steps: they then teach nothing.
WINDOW_STEPS = 20
COLLAPSED_ENTROPY = 0.995  # mean entropy of the targets, as a share of ln K

Record = dict[str, Any]


class LogFile:
    """log.jsonl, which training appends to.

    Args:
        path: of the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: Record) -> None:
        """Append a record at once."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, stage: str, step: int) -> None:
        """Drop records of ``stage`` from ``step`` on: a resumed stage writes them again."""
        if not self._path.exists():
            return
        kept = [record for record in self.records() if record.get("stage") != stage or record.get("step", -1) < step]
        atomic_write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))

    def last(self, stage: str) -> Record:
        """The last record of ``stage``; empty where there is none."""
        return next((record for record in reversed(self.records()) if record.get("stage") == stage), {})

    def records(self) -> list[Record]:
        """All records; a last line that an interruption cut off is left out.

        Raises:
            UserError: another line is damaged.
        """
        if not self._path.is_file():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines()
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("it is not a JSON object")
            except ValueError as error:
                if number == len(lines):
                    break
                problem = f"line {number} of {self._path.name} is damaged: {error}"
                raise UserError(problem, str(self._path), "remove this line") from error
            records.append(record)
        return records
