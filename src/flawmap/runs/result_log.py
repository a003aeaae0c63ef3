"""The output folder of ``flawmap detect``: results.jsonl grows line by line, result.json is written at the end."""

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawmap.errors import UserError

LINES, RESULT, TABLE = "results.jsonl", "result.json", "results.csv"
LINE_START = b'{"image": '  # of each of our lines
OTHER_OUTPUT = "choose another --output"


@dataclass(frozen=True)
class Verdicts:
    """What the verdict on an image rests on.

    Attributes:
        camera: whose threshold judges; None stands for the default.
        thresholds: one of which it is, None where there is none.
    """

    camera: str | None
    thresholds: Collection[float | None]


class ResultLog:
    """results.jsonl in a folder: one JSON object per scored image, written at once and completely.

    Args:
        folder: exists.
        model_id: of the model that scores; a file holds scores of one model only.
        verdicts_on: what the verdict on an image rests on, by the image's name; a file holds no other verdicts.
        min_area_px: of regions; a file holds verdicts by one minimum only.
        see: is shown each record, those of earlier calls first.

    Attributes:
        done: images that are scored, and whether they are anomalous.

    Raises:
        UserError: the file is not ours, or is from another model, camera, threshold or minimum area.
    """

    def __init__(
        self,
        folder: Path,
        model_id: str,
        verdicts_on: Callable[[str], Verdicts],
        min_area_px: float = 0.0,
        see: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._see = see or (lambda _: None)
        self._path, self._model_id, self._verdicts_on = folder / LINES, model_id, verdicts_on
        self._min_area_px = min_area_px
        self.done: dict[str, bool] = {}
        if self._path.exists():
            kept = 0
            with self._path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.endswith(b"\n"):
                        self._take(line, number)
                        kept += len(line)
                    elif not (line.startswith(LINE_START) or LINE_START.startswith(line)):
                        raise UserError("this file is not from flawmap detect", str(self._path), OTHER_OUTPUT)
            os.truncate(self._path, kept)
        elif theirs := [name for name in (RESULT, TABLE) if (folder / name).exists()]:
            raise UserError(f"the folder has a {theirs[0]} that is not from flawmap detect", str(folder), OTHER_OUTPUT)
        self._file = self._path.open("ab")

    def _take(self, line: bytes, number: int) -> None:
        """Take over a line of an earlier call."""
        try:
            record = json.loads(line)
            self.done[record["image"]] = record["is_anomalous"]
            model_id, line_threshold = record["model_id"], record["threshold"]
        except (ValueError, KeyError, TypeError) as error:
            place = f"{self._path} line {number}"
            raise UserError("this line is not from flawmap detect", place, OTHER_OUTPUT) from error
        if model_id != self._model_id:
            raise UserError("the results there are from another model", str(self._path), OTHER_OUTPUT)
        verdicts = self._verdicts_on(record["image"])
        if record.get("camera") != verdicts.camera:  # flawmap 0.1.0 had none
            before, now = (name or "none" for name in (record.get("camera"), verdicts.camera))
            raise UserError(
                f"the verdicts there are for camera {before}; now it is {now}", str(self._path), OTHER_OUTPUT
            )
        if line_threshold not in verdicts.thresholds:
            now = " or ".join(map(_shown, verdicts.thresholds))
            problem = f"the verdicts there used the threshold {_shown(line_threshold)}; now it is {now}"
            raise UserError(problem, str(self._path), OTHER_OUTPUT)
        if (theirs := record.get("min_area_px", 0.0)) != self._min_area_px:
            problem = f"the verdicts there used a minimum area of {theirs:g} px; now it is {self._min_area_px:g} px"
            raise UserError(problem, str(self._path), OTHER_OUTPUT)
        self._see(record)

    def add(self, record: dict[str, Any]) -> str:
        """Write a record; returns its line."""
        of_model = {"model_id": self._model_id, "min_area_px": self._min_area_px}
        line = json.dumps(record | {"camera": self._verdicts_on(record["image"]).camera} | of_model)
        self._file.write(line.encode("ascii") + b"\n")
        self._file.flush()
        self.done[record["image"]] = record["is_anomalous"]
        self._see(record)
        return line

    def close(
        self,
        model: str,
        not_scored: Sequence[dict[str, Any]],
        left_out: Sequence[dict[str, str]] = (),
        is_complete: bool = True,
        judged_by: Mapping[str, Any] | None = None,
        drift: Mapping[str, Any] | None = None,
        camera: str | None = None,
        listed: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write result.json from the lines, one at a time, so that memory does not grow with their number.

        Args:
            model: path of the model.
            not_scored: images without a result, with the reason.
            left_out: files beside the images that were passed over.
            is_complete: whether every image was tried; not after an interruption.
            judged_by: the thresholds that were used, and where they are from.
            drift: whether the images differ from the good ones of the thresholds.
            camera: of all images that no list gives another one.
            listed: the same for each product and camera that lists name.
        """
        self._file.close()
        target = self._path.with_name(RESULT)
        unfinished = self._path.with_name(f".{RESULT}.tmp")
        with self._path.open(encoding="ascii") as lines, unfinished.open("w", encoding="ascii") as file:
            head = {
                "model": model,
                "camera": camera,
                "judged_by": dict(judged_by or {}),
                "complete": is_complete,
                "drift": dict(drift) if drift else None,
                "listed": [dict(one) for one in listed],
            }
            file.write(f'{json.dumps(head)[:-1]}, "images": [')
            for number, line in enumerate(lines):
                file.write((",\n" if number else "\n") + line.rstrip("\n"))
            file.write(f'\n], "not_scored": {json.dumps(list(not_scored))}, ')
            file.write(f'"left_out": {json.dumps(list(left_out))}}}\n')
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)


def _shown(threshold: float | None) -> str:
    return "none" if threshold is None else f"{threshold:.6g}"
