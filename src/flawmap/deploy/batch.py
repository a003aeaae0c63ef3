"""Score many images into a results folder: several at once, in their order and in bounded memory.

What ``flawmap detect`` does, for Python.
"""

import io
from collections.abc import Callable, Generator, Mapping, Sequence
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
from flawmap.deploy.drift_watch import DriftWatch
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
from flawmap.runs.result_log import ResultLog, Verdicts
from flawmap.runs.threshold_names import camera_in, product_in
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
    """An image, where its picture and its map go, and their names without the verdict, such as ``0003_part``.

    ``judged_as`` says whose thresholds judge it, of a camera or a product, by the names of
    :mod:`flawmap.runs.threshold_names`; None takes the default ones.
    """

    image: Path | RemoteFile
    folder: Path
    name: str
    judged_as: str | None = None

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
FactsByName = Mapping[str | None, ModelFacts]  # the same model with the thresholds that jobs are judged by
ScoresElsewhere = Callable[[Sequence[Job], FactsByName, Drawn], Scored]  # scores jobs on other machines, in any order


class Batch:
    """Images that are scored into one folder: results.jsonl, result.json, results.csv and a picture of each image.

    Args:
        model: opened; may score in several threads at once.
        found: the images to score, and what was passed over beside them.
        folder: for the results; a taken name gets a number, unless ``resume``.
        resume: continue in ``folder``: images with a result are not scored again.
        maps: also write the raw maps into ``folder``/maps, in this format.
        overlays: write a picture of each image.
        facts_of: the model's facts with other thresholds, for images that are of another product or camera.

    Attributes:
        folder: where the results are.
        n_resumed: images that had a result already.
        not_scored: images that could not be read, with the reason.
        watches: whether the images of each camera and product, those of an earlier call included, differ from the good
            ones of its thresholds.

    Raises:
        UserError: with ``resume``, the folder holds results of another model, camera, threshold or minimum area; or
            the model has no region of interest for a camera.
    """

    def __init__(
        self,
        model: OpenedModel,
        found: Listing[Path | RemoteFile],
        folder: Path,
        resume: bool = False,
        maps: MapFormat | None = None,
        overlays: bool = True,
        facts_of: Mapping[Path | RemoteFile, ModelFacts] | None = None,
    ) -> None:
        self._drawn = Drawn(overlays, maps)
        self._model, self._images, self._left_out = model, found.images, found.left_out
        own, others = model.facts, facts_of or {}
        self._judged_as: dict[str, str | None] = {str(image): facts.camera for image, facts in others.items()}
        of_others = {facts.camera: model.with_facts(facts) for facts in others.values()}
        self._models: dict[str | None, OpenedModel] = {**of_others, own.camera: model}
        for judged_as in {self._named(image) for image in found.images}:
            self._models[judged_as].facts.rois_of(None, 1)  # raises where no region of interest is for its camera
        self.folder: Path = folder if resume else new_folder(folder)
        (self.folder / MAPS if maps else self.folder).mkdir(parents=True, exist_ok=True)
        self.watches: dict[str | None, DriftWatch] = {
            name: DriftWatch(one.facts.calibration, name) for name, one in self._models.items()
        }
        self._log = ResultLog(self.folder, own.model_id, self._verdicts_on, own.min_area_px, self._see)
        self._jobs = self._plan()
        self.n_resumed: int = len(self._images) - len(self._jobs)
        self.not_scored: dict[Path | RemoteFile, str] = {}

    def _named(self, image: Path | RemoteFile | str) -> str | None:
        """Whose thresholds judge an image."""
        return self._judged_as.get(str(image), self._model.facts.camera)

    def _verdicts_on(self, image: str) -> Verdicts:
        judged_as = self._named(image)
        return Verdicts(camera_in(judged_as), self._models[judged_as].facts.judging.thresholds)

    def _see(self, record: Mapping[str, Any]) -> None:
        """Show a record to the watch on its camera."""
        self.watches[self._named(record["image"])].see(record["scores"], record["score"], record["image"])

    def _plan(self) -> list[Job]:
        numbers = [path.name.split("_")[1] for path in self.folder.glob("*_*_*.png")]
        numbers += [path.name.split("_")[0] for path in (self.folder / MAPS).glob("*_*.*")]
        first = 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
        remaining = [path for path in self._images if str(path) not in self._log.done]
        names = [numbered_name(number, PurePath(image.name)) for number, image in enumerate(remaining, first)]
        return [Job(image, self.folder, name, self._named(image)) for image, name in zip(remaining, names, strict=True)]

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
            facts = {name: model.facts for name, model in self._models.items()}
            scored = self._outcomes(workers) if here else elsewhere(self._jobs, facts, self._drawn)
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
            own, *listed = self._in_words(model_path if isinstance(model_path, Path) else None)
            self._log.close(str(model_path), failures, left_out, is_complete, **own, listed=listed)
            write_table(self.folder, self.not_scored)

    def _in_words(self, model_path: Path | None) -> list[dict[str, Any]]:
        """Of the model's own thresholds, then of those that lists name: whose they are, where from, and their watch."""
        own = self._model.facts.camera
        names = [own, *sorted(name for name in self._models if name is not None and name != own)]
        return [
            {
                **({} if name == own else {"product": product_in(name)}),
                "camera": camera_in(name),
                "judged_by": self._models[name].facts.judged_by,
                "drift": self.watches[name].to_json(model_path),
            }
            for name in names
        ]

    def _outcomes(self, workers: int) -> Scored:
        batches = batches_of(self._jobs, self._images_per_batch())
        scoring = Semaphore(workers)
        budget = PixelBudget((workers + 1) * PIXELS_PER_THREAD)

        def work(number: int, jobs: Sequence[Job]) -> list[Finished | UserError]:
            """From files to what is to be written; the images of a batch are always the same."""
            images = {job: _read(job) for job in jobs}
            unread = {job: image for job, image in images.items() if isinstance(image, UserError)}
            pixels = {job: image for job, image in images.items() if not isinstance(image, UserError)}
            budget.take(number, sum(image.shape[0] * image.shape[1] for image in pixels.values()))
            with scoring:
                detections = self._detections(pixels)
            return [
                unread[job]
                if job in unread
                else finished(job, pixels[job], detections[job], self._models[job.judged_as].facts, self._drawn)
                for job in jobs
            ]

        threads = max(1, min(workers + READING_AND_DRAWING, len(batches)))
        with closing(in_order(work, batches, threads, budget)) as results:
            for jobs, outcomes in zip(batches, results, strict=True):
                yield from zip(jobs, outcomes, strict=True)

    def _detections(self, pixels: Mapping[Job, NDArray[np.uint8]]) -> dict[Job, Detection | UserError]:
        """The verdict on each image; those that are judged alike share a forward pass."""
        found: dict[Job, Detection | UserError] = {}
        for judged_as in dict.fromkeys(job.judged_as for job in pixels):
            alike = [job for job in pixels if job.judged_as == judged_as]
            found |= zip(alike, _detections(self._models[judged_as], [pixels[job] for job in alike]), strict=True)
        return found

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
