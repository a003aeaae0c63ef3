"""A queue of uploads in front of one model, which a single thread uses, a few images at a time."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import decode_image
from flawmap.deploy.model_health import ModelHealth
from flawmap.deploy.opened_model import OpenedModel
from flawmap.detect.detection import Detection, NotScoredError
from flawmap.runs.threshold_names import camera_in


@dataclass(frozen=True)
class Scored:
    """What the model computed for one upload.

    Attributes:
        detection: the verdict.
        pixels: of the upright image, uint8 (height, width, 3).
        seconds: the time of its batch, divided by the size of the batch.
        attention: (r, c) on the patch grid where it was asked for and the model provides it.
    """

    detection: Detection
    pixels: NDArray[np.uint8]
    seconds: float
    attention: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Job:
    data: bytes
    camera: str | None
    with_attention: bool
    make: Callable[[Scored], Any]
    answer: "Future[Any]"


T = TypeVar("T")


class WorkQueue:
    """Uploads in, answers out, in the order of arrival; before the first, the model takes its self-test.

    The queue holds the bytes of the uploads, whose number the server limits. At most ``batch_size`` images are decoded
    at a time, and their pixels are at most ``max_pixels`` together, not counting one image that did not fit and is
    scored next. Answers are made in the same thread, so that maps cannot pile up. Memory is therefore bounded by what
    two images may need.

    Args:
        model: used by one thread only.
        batch_size: the most images that are handed to the model together.
        max_pixels: of one image.

    Attributes:
        health: of the model; after a failed self-test no upload is scored.
    """

    def __init__(self, model: OpenedModel, batch_size: int, max_pixels: int) -> None:
        self._model, self._batch_size, self._max_pixels = model, batch_size, max_pixels
        self._jobs: deque[_Job] = deque()
        self._thread = ThreadPoolExecutor(1, "flawmap-model")
        self.health = ModelHealth(model.facts.self_test)
        self._thread.submit(self.health.run_self_test, model)

    @property
    def waiting(self) -> int:
        """Uploads in the queue."""
        return len(self._jobs)

    def submit(
        self, data: bytes, make: Callable[[Scored], T], with_attention: bool = False, camera: str | None = None
    ) -> "Future[T]":
        """Queue an upload; the future gets its answer, or the UserError that explains what is wrong with the image.

        Where the fault is the model's, it gets a NotScoredError or a FailedModelError.

        Args:
            data: an image file.
            make: makes the answer; called in the queue's thread.
            with_attention: also compute the attention.
            camera: whose region of interest counts; None: that of the model's camera in use.
        """
        job = _Job(data, camera, with_attention, make, Future())
        self._jobs.append(job)
        self._thread.submit(self._answer_waiting)
        return job.answer

    def change_model(self, change: Callable[[], None], health: ModelHealth) -> "Future[None]":
        """Let another model take over between two batches.

        Args:
            change: puts it in the place of the one in use; called in the queue's thread.
            health: of the other model, which has taken its self-test.
        """

        def in_turn() -> None:
            change()
            self.health = health

        return self._thread.submit(in_turn)

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        self._thread.shutdown()

    def _answer_waiting(self) -> None:
        """Answer up to ``batch_size`` jobs; none is left where an earlier batch has taken them."""
        jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._batch_size))]
        self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])

    def _answer(self, jobs: list[_Job]) -> None:
        """Decode and score; a batch is split where it would have too many pixels."""
        batch: list[tuple[_Job, NDArray[np.uint8]]] = []
        for job in jobs:
            try:
                pixels = decode_image(job.data, self._max_pixels)
            except Exception as error:
                job.answer.set_exception(error)
                continue
            if batch and sum(image.size for _, image in batch) + pixels.size > 3 * self._max_pixels:
                self._score(batch)
                batch = []
            batch.append((job, pixels))
        if batch:
            self._score(batch)

    def _score(self, batch: list[tuple[_Job, NDArray[np.uint8]]]) -> None:
        started = time.perf_counter()
        try:
            self.health.refuse_failed()
            cameras = [job.camera or camera_in(self._model.facts.camera) for job, _ in batch]
            detections = self._model.predict_many([pixels for _, pixels in batch], cameras)
        except Exception as error:
            if len(batch) == 1:
                if isinstance(error, NotScoredError):
                    self.health.note_not_scored(error)
                batch[0][0].answer.set_exception(error)
            else:  # one failing image must not cost the others their answers
                for job_and_pixels in batch:
                    self._score([job_and_pixels])
            return
        seconds = (time.perf_counter() - started) / len(batch)
        for (job, pixels), detection in zip(batch, detections, strict=True):
            try:
                attention = self._model.attention(pixels) if job.with_attention else None
                answer = job.make(Scored(detection, pixels, seconds, attention))
            except Exception as error:
                job.answer.set_exception(error)
            else:
                job.answer.set_result(answer)
