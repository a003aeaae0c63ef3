"""Score many images into a results folder: in order, in bounded memory, in this process or in several.

What ``flawmap detect`` does, for Python.
"""

import csv
import glob
import json
import os
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.layouts.image_folders import images_in
from flawmap.data.left_out import as_records, counted
from flawmap.data.sample import LeftOut
from flawmap.data.walk import Listing
from flawmap.deploy.opened_model import OpenedModel, OpenedRun, open_model
from flawmap.deploy.reviews import plain_cell
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError
from flawmap.report.colour import ColourScale
from flawmap.report.verdict_picture import verdict_of, verdict_picture
from flawmap.runs.result_folders import new_folder
from flawmap.runs.result_log import LINES, TABLE, ResultLog

if TYPE_CHECKING:
    from flawmap.engine.compute import DeviceName

MAX_STEM_LENGTH = 48  # characters of a picture's name that come from the image; no file system finds that too long
TABLE_COLUMNS = ("image", "verdict", "score", "threshold", "regions", "picture", "problem")
MAPS = "maps"  # the folder of raw maps
VERDICT_NAMES = {"ANOMALY": "anomaly", "ok": "ok", "no threshold": "scored"}  # in names of pictures
MapFormat = Literal["npy", "tiff"]

Outcome = dict[str, Any] | UserError  # the record of an image, or why it has none


@dataclass(frozen=True)
class Job:
    """An image, where its picture and its map go, and their names without the verdict, such as ``0003_part``."""

    image: Path
    folder: Path
    name: str
    maps: MapFormat | None

    def picture(self, verdict: str) -> Path:
        """The picture's file: the verdict comes first, so that a folder sorted by name is sorted by verdict."""
        return self.folder / f"{verdict}_{self.name}.png"


class Batch:
    """Images that are scored into one folder: results.jsonl, result.json, results.csv and a picture of each image.

    Args:
        model: opened, for this process.
        found: the images to score, and what was passed over beside them.
        folder: for the results; a taken name gets a number, unless ``resume``.
        resume: continue in ``folder``: images with a result are not scored again.
        maps: also write the raw maps into ``folder``/maps, in this format.

    Attributes:
        folder: where the results are.
        n_resumed: images that had a result already.
        not_scored: images that could not be read, with the reason.

    Raises:
        UserError: with ``resume``, the folder holds results of another model, camera or threshold.
    """

    def __init__(
        self,
        model: OpenedModel,
        found: Listing[Path],
        folder: Path,
        resume: bool = False,
        maps: MapFormat | None = None,
    ) -> None:
        self._maps: MapFormat | None = maps
        self._model, self._images, self._left_out = model, found.images, found.left_out
        self.folder = folder if resume else new_folder(folder)
        (self.folder / MAPS if maps else self.folder).mkdir(parents=True, exist_ok=True)
        calibration = model.facts.calibration
        threshold = calibration.threshold if calibration else None
        self._log = ResultLog(self.folder, model.facts.model_id, threshold, model.facts.camera)
        self._jobs = self._plan()
        self.n_resumed = len(self._images) - len(self._jobs)
        self.not_scored: dict[Path, str] = {}

    def _plan(self) -> list[Job]:
        numbers = [number for path in self.folder.glob("*_*_*.png") for number in path.name.split("_")[1:2]]
        first = 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
        remaining = [path for path in self._images if str(path) not in self._log.done]
        return [
            Job(path, self.folder, f"{first + number:04d}_{path.stem[:MAX_STEM_LENGTH]}", self._maps)
            for number, path in enumerate(remaining)
        ]

    @property
    def n_to_score(self) -> int:
        """Images without a result when the batch was made."""
        return len(self._jobs)

    @property
    def n_anomalous(self) -> int:
        """Images called anomalous so far, with those of an earlier run."""
        return sum(self._log.done.get(str(path), False) for path in self._images)

    def run(self, model_path: Path, device: "DeviceName" = "auto", workers: int = 1) -> Generator[Outcome, None, None]:
        """Score all images, and yield each outcome in order, once it is written. An unreadable image costs no other.

        Args:
            model_path: of the model, for workers to open and for result.json, which is written at the end or on close.
            device: for workers.
            workers: processes; 1 scores in this one.

        Raises:
            UserError: a worker died. What was scored until then is kept.
        """
        is_complete = False
        try:
            for job, outcome in self._outcomes(model_path, device, workers):
                if isinstance(outcome, UserError):
                    self.not_scored[job.image] = outcome.problem
                else:
                    self._log.add(outcome)
                yield outcome
            is_complete = True
        finally:  # also when interrupted
            failures = [{"image": str(path), "problem": problem} for path, problem in self.not_scored.items()]
            self._log.close(str(model_path), failures, as_records(self._left_out), is_complete)
            write_table(self.folder, self.not_scored)

    def _outcomes(self, model_path: Path, device: "DeviceName", workers: int) -> Iterator[tuple[Job, Outcome]]:
        if workers == 1 or len(self._jobs) < 2:
            yield from ((job, detect_one(self._model, job)) for job in self._jobs)
            return
        pool = ProcessPoolExecutor(
            workers, get_context("spawn"), _open, (str(model_path), device, workers, self._model.facts)
        )
        try:
            yield from zip(self._jobs, pool.map(_score, self._jobs), strict=True)
        except BrokenProcessPool as error:
            problem = "a worker process died, probably out of memory"
            raise UserError(problem, "--workers", "repeat with --resume and fewer --workers") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def detect_one(model: OpenedModel, job: Job) -> Outcome:
    """Score one image, and write its picture and its map."""
    try:
        pixels = read_image(job.image)
        (detection,) = model.predict_many([pixels])
    except UserError as error:
        return error
    scale = model.facts.map_scale
    colours = ColourScale(scale.low, (scale.low + scale.high) / 2, scale.high)
    picture = job.picture(VERDICT_NAMES[verdict_of(detection)])
    Image.fromarray(verdict_picture(pixels, detection, colours)).save(picture)
    record = {"image": str(job.image), **detection.to_json(), "overlay": str(picture)}
    if job.maps is not None:
        record["map"] = str(_write_map(job, detection.anomaly_map, job.maps))
    return record | {"model_id": model.facts.model_id, "camera": model.facts.camera}


def write_table(folder: Path, not_scored: Mapping[Path, str]) -> None:
    """results.csv for a spreadsheet: a row for each line of results.jsonl, then the images without a result."""
    unfinished = folder / f".{TABLE}.tmp"
    with (
        (folder / LINES).open(encoding="ascii") as lines,
        unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,  # any bytes in names
    ):
        file.write("\ufeff")  # the byte order mark, for Excel
        rows = csv.writer(file, lineterminator="\r\n")
        rows.writerow(TABLE_COLUMNS)
        for record in map(json.loads, lines):
            verdict = "" if record["threshold"] is None else "anomaly" if record["is_anomalous"] else "ok"
            cells = [verdict, record["score"], record["threshold"], len(record["regions"])]
            rows.writerow([plain_cell(record["image"]), *cells, plain_cell(record["overlay"]), ""])
        for image, problem in not_scored.items():
            rows.writerow([plain_cell(str(image)), "not scored", "", "", "", "", plain_cell(problem)])
    os.replace(unfinished, folder / TABLE)


def _write_map(job: Job, anomaly_map: NDArray[np.float32], maps: MapFormat) -> Path:
    """The raw map, float32 (height, width) of the image, in the model's own units."""
    path = job.folder / MAPS / f"{job.name}.{maps}"
    if maps == "npy":
        np.save(path, anomaly_map)
    else:
        Image.fromarray(anomaly_map).save(path, "TIFF", compression="tiff_deflate")
    return path


_model: OpenedModel | None = None  # of a worker process


def _open(path: str, device: "DeviceName", workers: int, facts: ModelFacts) -> None:
    global _model
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the process that hands out the work
    _model = open_model(path, device, max(1, (os.cpu_count() or 1) // workers), facts.camera)
    if isinstance(_model, OpenedRun):  # a calibration in the meantime must not divide the results
        _model = _model.with_calibration(facts.calibration)


def _score(job: Job) -> Outcome:
    assert _model is not None
    return detect_one(_model, job)


def find_images(patterns: Sequence[str]) -> Listing[Path]:
    """Files, the images in folders and below them, and the matches of patterns; each file once, in the order given.

    A file that is named is an image, whatever it is; in a folder, what is none is passed over with a reason.

    Raises:
        UserError: nothing was found for one of the patterns.
    """
    images: dict[Path, None] = {}
    left_out: tuple[LeftOut, ...] = ()
    for pattern in patterns:
        path, found = Path(pattern), Listing[Path]()
        if path.is_dir():
            found = images_in(path)
        elif path.is_file():
            found = Listing((path,))
        else:
            matches = map(Path, sorted(glob.glob(pattern, recursive=True)))
            found = Listing(tuple(match for match in matches if match.is_file()))
        if not found.images:
            beside = f" ({counted(found.left_out)})" if found.left_out else ""
            remedy = f"give files, folders or patterns (you are in {Path.cwd()})"
            raise UserError(f"no images there{beside}", pattern, remedy)
        images.update(dict.fromkeys(found.images))
        left_out += found.left_out
    return Listing(tuple(images), left_out)
