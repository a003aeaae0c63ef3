"""Score many images into a results folder: several at once, in their order and in bounded memory.

What ``flawmap detect`` does, for Python.
"""

import io
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath
from threading import Semaphore
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.left_out import as_records
from flawmap.data.walk import Listing
from flawmap.deploy.drift_watch import DriftWatch, watching
from flawmap.deploy.opened_model import OpenedModel
from flawmap.deploy.result_table import write_table
from flawmap.detect.detection import Detection
from flawmap.detect.model_facts import ModelFacts
from flawmap.drawing.colour import ColourScale
from flawmap.drawing.verdict_picture import as_png, verdict_of, verdict_picture
from flawmap.engine.in_order import PIXELS_PER_THREAD, PixelBudget, batches_of, fewer_if_large, in_order
from flawmap.errors import UserError
from flawmap.runs.file_names import numbered_name
from flawmap.runs.result_folders import new_folder
from flawmap.runs.result_log import ResultLog
from flawmap.runs.threshold_names import camera_in
from flawmap.storage.remote_file import RemoteFile

MAPS = "maps"  # the folder of raw maps
VERDICT_NAMES = {  # in names of pictures
    "ANOMALY": "anomaly",
    "ok": "ok",
    "no threshold": "scored",
    "UNKNOWN PRODUCT": "unknown-product",
}
READING_AND_DRAWING = 2  # threads beside those that score, so that these need not wait for files
MapFormat = Literal["npy", "tiff"]

Outcome = dict[str, Any] | UserError  # the record of an image, or why it has none


@dataclass(frozen=True)
class Job:
    """An image, where its picture and its map go, and their names without the verdict, such as ``0003_part``."""

    image: Path | RemoteFile
    folder: Path
    name: str

    def picture(self, verdict: str) -> Path:
        """The picture's file: the verdict comes first, so that a folder sorted by name is sorted by verdict."""
        return self.folder / f"{verdict}_{self.name}.png"

    def map(self, format_: MapFormat) -> Path:
        """The file of the raw map."""
        return self.folder / MAPS / f"{self.name}.{format_}"


@dataclass(frozen=True)
class Finished:
    """What remains to be written of an image: its record, and the content of its files."""

    record: dict[str, Any]
    files: dict[Path, bytes]

    def write_files(self) -> None:
        """Write them; a file that cannot be written completely is removed."""
        for path, content in self.files.items():
            try:
                path.write_bytes(content)
            except BaseException:
                path.unlink(missing_ok=True)
                raise


@dataclass(frozen=True)
class Drawn:
    """Which files are written about each image."""

    overlays: bool
    maps: MapFormat | None


Scored = Generator[tuple[Job, Finished | UserError], None, None]
ScoresElsewhere = Callable[[Sequence[Job], ModelFacts, Drawn], Scored]  # scores jobs on other machines, in any order


class Batch:
    """Images that are scored into one folder: results.jsonl, result.json, results.csv and a picture of each image.

    Args:
        model: opened; may score in several threads at once.
        found: the images to score, and what was passed over beside them.
        folder: for the results; a taken name gets a number, unless ``resume``.
        resume: continue in ``folder``: images with a result are not scored again.
        maps: also write the raw maps into ``folder``/maps, in this format.
        overlays: write a picture of each image.

    Attributes:
        folder: where the results are.
        n_resumed: images that had a result already.
        not_scored: images that could not be read, with the reason.
        watch: whether the images, those of an earlier call included, differ from the model's good ones.

    Raises:
        UserError: with ``resume``, the folder holds results of another model, camera, threshold or minimum area; or
            the model has no region of interest for the camera in use.
    """

    def __init__(
        self,
        model: OpenedModel,
        found: Listing[Path | RemoteFile],
        folder: Path,
        resume: bool = False,
        maps: MapFormat | None = None,
        overlays: bool = True,
    ) -> None:
        model.facts.rois_of(None, 1)  # raises where no region of interest is for the camera in use, or for no camera
        self._drawn = Drawn(overlays, maps)
        self._model, self._images, self._left_out = model, found.images, found.left_out
        self.folder: Path = folder if resume else new_folder(folder)
        (self.folder / MAPS if maps else self.folder).mkdir(parents=True, exist_ok=True)
        calibration = model.facts.calibration
        facts = model.facts
        self.watch: DriftWatch = DriftWatch(calibration, facts.camera)
        judged_by = facts.judging.thresholds, camera_in(facts.camera), facts.min_area_px
        self._log = ResultLog(self.folder, facts.model_id, *judged_by, watching(self.watch))
        self._jobs = self._plan()
        self.n_resumed: int = len(self._images) - len(self._jobs)
        self.not_scored: dict[Path | RemoteFile, str] = {}

    def _plan(self) -> list[Job]:
        numbers = [path.name.split("_")[1] for path in self.folder.glob("*_*_*.png")]
        numbers += [path.name.split("_")[0] for path in (self.folder / MAPS).glob("*_*.*")]
        first = 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
        remaining = [path for path in self._images if str(path) not in self._log.done]
        names = [numbered_name(number, PurePath(image.name)) for number, image in enumerate(remaining, first)]
        return [Job(image, self.folder, name) for image, name in zip(remaining, names, strict=True)]

    @property
    def n_to_score(self) -> int:
        """Images without a result when the batch was made."""
        return len(self._jobs)

    @property
    def n_anomalous(self) -> int:
        """Images called anomalous so far, with those of an earlier run."""
        return sum(self._log.done.get(str(path), False) for path in self._images)

    def run(
        self, model_path: str | Path, workers: int = 1, elsewhere: ScoresElsewhere | None = None
    ) -> Generator[Outcome, None, None]:
        """Score all images, and yield each outcome in order, once it is written. An unreadable image costs no other.

        ``workers`` threads score, and others read the next images and draw the last ones. Where images share a forward
        pass, as on an accelerator, each thread has a batch, and they take turns in the model. This thread writes, so
        that files and lines are written in the order of the images, and an interruption leaves at most one picture
        without its line.

        Args:
            model_path: of the model, or its address in a store, for result.json, which is written at the end or on
                close.
            workers: images that are scored at the same time. The model should use one core for each.
            elsewhere: scores the images instead of this process, which writes them as they come.

        Raises:
            UserError: there is not enough memory for so many. What was scored until then is kept.
        """
        is_complete = False
        try:
            here = elsewhere is None
            scored = self._outcomes(workers) if here else elsewhere(self._jobs, self._model.facts, self._drawn)
            with closing(scored) as outcomes:
                for job, outcome in outcomes:
                    if isinstance(outcome, UserError):
                        self.not_scored[job.image] = outcome.problem
                        yield outcome
                    else:
                        outcome.write_files()
                        self._log.add(outcome.record)
                        yield outcome.record
            is_complete = True
        except MemoryError as error:
            remedy = "repeat with --resume and fewer --workers" if workers > 1 else "close other programs"
            raise UserError("out of memory", "--workers", remedy) from error
        finally:  # also when interrupted
            failures = [{"image": str(path), "problem": problem} for path, problem in self.not_scored.items()]
            left_out = as_records(self._left_out)
            on_disk = model_path if isinstance(model_path, Path) else None
            judged_by, drift = self._model.facts.judged_by, self.watch.to_json(on_disk)
            self._log.close(str(model_path), failures, left_out, is_complete, judged_by, drift)
            write_table(self.folder, self.not_scored)

    def _outcomes(self, workers: int) -> Scored:
        batches = batches_of(self._jobs, self._images_per_batch())
        scoring = Semaphore(workers)
        budget = PixelBudget((workers + 1) * PIXELS_PER_THREAD)

        def work(number: int, jobs: Sequence[Job]) -> list[Finished | UserError]:
            """From files to what is to be written; the images of a batch are always the same."""
            images = [_read(job) for job in jobs]
            pixels = [image for image in images if not isinstance(image, UserError)]
            budget.take(number, sum(image.shape[0] * image.shape[1] for image in pixels))
            with scoring:
                detections = iter(_detections(self._model, pixels))
            return [
                image
                if isinstance(image, UserError)
                else finished(job, image, next(detections), self._model.facts, self._drawn)
                for job, image in zip(jobs, images, strict=True)
            ]

        threads = max(1, min(workers + READING_AND_DRAWING, len(batches)))
        with closing(in_order(work, batches, threads, budget)) as results:
            for jobs, outcomes in zip(batches, results, strict=True):
                yield from zip(jobs, outcomes, strict=True)

    def _images_per_batch(self) -> int:
        """As many as share a forward pass, and fewer where the first image is large."""
        size = self._model.batch_size
        if size == 1:
            return 1
        readable = (image for job in self._jobs if not isinstance(image := _read(job), UserError))
        first = next(readable, None)
        return size if first is None else fewer_if_large(size, first.shape[0] * first.shape[1])


def finished(
    job: Job, image: NDArray[np.uint8], detection: Detection | UserError, facts: ModelFacts, drawn: Drawn
) -> Finished | UserError:
    """Draw an image's picture, and pack its map; uint8 (h, w, 3)."""
    if isinstance(detection, UserError):
        return detection
    files: dict[Path, bytes] = {}
    record = {"image": str(job.image), **detection.to_json(), "overlay": None}
    if drawn.overlays:
        scale = facts.map_scale
        colours = ColourScale(scale.low, (scale.low + scale.high) / 2, scale.high)
        path = job.picture(VERDICT_NAMES[verdict_of(detection)])
        files[path] = as_png(verdict_picture(image, detection, colours, facts.min_area_px))
        record["overlay"] = str(path)
    if drawn.maps is not None:
        path = job.map(drawn.maps)
        files[path] = _packed_map(detection.anomaly_map, drawn.maps)
        record["map"] = str(path)
    of_model = {"model_id": facts.model_id, "camera": camera_in(facts.camera), "min_area_px": facts.min_area_px}
    return Finished(record | of_model, files)


def _read(job: Job) -> NDArray[np.uint8] | UserError:
    try:
        return read_image(job.image)
    except UserError as error:
        return error


def _detections(model: OpenedModel, images: list[NDArray[np.uint8]]) -> list[Detection] | list[Detection | UserError]:
    """The verdict on each image; one without a finite score costs no other of its batch."""
    try:
        return model.predict_many(images)
    except UserError as error:
        if len(images) == 1:
            return [error]
    return [detection for image in images for detection in _detections(model, [image])]


def _packed_map(anomaly_map: NDArray[np.float32], format_: MapFormat) -> bytes:
    """The raw map, float32 (height, width) of the image, in the model's own units."""
    file = io.BytesIO()
    if format_ == "npy":
        np.save(file, anomaly_map)
    else:
        Image.fromarray(anomaly_map).save(file, "TIFF", compression="tiff_deflate")
    return file.getvalue()
