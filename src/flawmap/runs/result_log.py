"""Where results of ``flawmap detect`` go: a line as soon as there is one, and one document at the end."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flawmap.errors import UserError

LINES, RESULT = "results.jsonl", "result.json"


BEGINNING = b'{"image": '  # of each of our lines


def holds_results(folder: Path) -> bool:
    """Whether a folder is the output of ``flawmap detect``: its pictures are none to be judged."""
    try:
        with (folder / LINES).open("rb") as file:
            return file.read(len(BEGINNING)) in (b"", BEGINNING)
    except OSError:
        return False


class ResultLog:
    """results.jsonl in a folder: one JSON object per scored image, written whole and at once.

    Args:
        folder: exists.
        model_id: of the model that scores; scores of two models do not go into one file.
        threshold: of its verdicts, None without one; verdicts by two thresholds do not, either.

    Raises:
        UserError: the lines that are there are from another model, or by another threshold.
    """

    def __init__(self, folder: Path, model_id: str, threshold: float | None) -> None:
        self._path, self._model_id = folder / LINES, model_id
        self.done: dict[str, bool] = {}  # image -> is_anomalous
        kept = 0
        for number, line in enumerate(self._whole_lines(), start=1):
            try:
                record = json.loads(line)
                image, is_anomalous, scored_by = record["image"], record["is_anomalous"], record["model_id"]
                judged_by = record["threshold"]
            except (ValueError, KeyError, TypeError) as error:
                place = f"{self._path} line {number}"
                raise UserError("this is no line of flawmap detect", place, "choose another --output") from error
            if scored_by != model_id:
                raise UserError("the results there are from another model", str(self._path), "choose another --output")
            if judged_by != threshold:
                problem = f"the verdicts there are by the threshold {_shown(judged_by)}; now it is {_shown(threshold)}"
                raise UserError(problem, str(self._path), "choose another --output")
            self.done[image] = is_anomalous
            kept += len(line)
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(kept)
                torn = file.read()
            if torn and not (torn.startswith(BEGINNING) or BEGINNING.startswith(torn)):
                raise UserError("this is no file of flawmap detect", str(self._path), "choose another --output")
            os.truncate(self._path, kept)
        elif (folder / RESULT).exists():
            raise UserError(f"{RESULT} there is of something else", str(folder), "choose another --output")
        self._file = self._path.open("ab")

    def _whole_lines(self) -> Iterator[bytes]:
        if self._path.exists():
            with self._path.open("rb") as file:
                yield from (line for line in file if line.endswith(b"\n"))

    def add(self, record: dict[str, Any]) -> str:
        """Write a record; returns its line."""
        line = json.dumps(record | {"model_id": self._model_id})
        self._file.write(line.encode("ascii") + b"\n")
        self._file.flush()
        self.done[record["image"]] = record["is_anomalous"]
        return line

    def close(self, model: str, not_scored: Sequence[dict[str, Any]]) -> None:
        """Write result.json from the lines, one at a time, so that memory does not grow with their number."""
        self._file.close()
        target = self._path.with_name(RESULT)
        beside = self._path.with_name(f".{RESULT}.tmp")
        with beside.open("w", encoding="ascii") as file:
            file.write(f'{{"model": {json.dumps(model)}, "images": [')
            for number, line in enumerate(self._whole_lines()):
                file.write((",\n" if number else "\n") + line.decode("ascii").rstrip("\n"))
            file.write(f'\n], "not_scored": {json.dumps(list(not_scored))}}}\n')
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)


def _shown(threshold: float | None) -> str:
    return "none" if threshold is None else f"{threshold:.6g}"
