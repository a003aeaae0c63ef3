"""One thread answers what the server is asked for, a few images at a time; the rest waits in a bounded queue."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import decode_image
from flawmap.deploy.opened_model import OpenedModel
from flawmap.detect.detection import Detection


@dataclass(frozen=True)
class Scored:
    """What the model says of one upload.

    Attributes:
        detection: the verdict.
        height, width: of the image, upright, in pixels.
        seconds: that its batch took, divided by the batch.
        attention: (r, c) on the patch grid where it was asked for and the model gives it.
    """

    detection: Detection
    height: int
    width: int
    seconds: float
    attention: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Job:
    data: bytes
    with_attention: bool
    make: Callable[[Scored], Any]
    answer: "Future[Any]"


T = TypeVar("T")


class QueueFullError(Exception):
    """Nothing more can wait; ask again in a moment."""


class WorkQueue:
    """Uploads in, verdicts out, in the order of arrival.

    What waits are the bytes as they were sent. At most ``batch_size`` images are decoded at a time; their pixels are at
    most ``max_pixels`` together, but for the one that did not fit and is next. Answers are made in the same thread, so
    that no maps pile up behind it: memory is bounded by what two images may have.

    Args:
        model: is used by one thread only.
        capacity: uploads that may wait.
        batch_size: images that are handed to the model together, if so many wait.
        max_pixels: of one image.
    """

    def __init__(self, model: OpenedModel, capacity: int, batch_size: int, max_pixels: int) -> None:
        self._model, self._batch_size, self._max_pixels = model, batch_size, max_pixels
        self._jobs: queue.Queue[_Job | None] = queue.Queue(capacity)
        self._closing = threading.Event()
        self._submitting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="flawmap-model", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether new uploads are taken."""
        return self._thread.is_alive() and not self._closing.is_set()

    @property
    def waiting(self) -> int:
        """Uploads in the queue."""
        return self._jobs.qsize()

    def submit(self, data: bytes, make: Callable[[Scored], T], with_attention: bool = False) -> "Future[T]":
        """Queue an upload; the future gets its answer, or the UserError that says what is wrong with the image.

        Args:
            data: an image file.
            make: the answer from what the model says; called in the queue's thread.
            with_attention: ask the model for its attention, too.

        Raises:
            QueueFullError: too many wait, or the queue is closing.
        """
        job = _Job(data, with_attention, make, Future())
        with self._submitting:  # nothing may slip in behind the end mark
            if not self.is_open:
                raise QueueFullError
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise QueueFullError from None
        return job.answer

    def close(self) -> None:
        """Take nothing new, answer what waits, and end the thread."""
        with self._submitting:
            already = self._closing.is_set()
            self._closing.set()
        if not already:
            self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            first = self._jobs.get()
            if first is None:
                return
            jobs = [first]
            while len(jobs) < self._batch_size:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    ended = True
                    break
                jobs.append(job)
            self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])

    def _answer(self, jobs: list[_Job]) -> None:
        """Decode and score; batches are cut where their pixels would be too many."""
        batch: list[tuple[_Job, NDArray[np.uint8]]] = []
        for job in jobs:
            pixels = _or_failure(job, lambda job=job: decode_image(job.data, self._max_pixels))
            if pixels is None:
                continue
            if batch and sum(image.size for _, image in batch) + pixels.size > 3 * self._max_pixels:
                self._score(batch)
                batch = []
            batch.append((job, pixels))
        self._score(batch)

    def _score(self, batch: list[tuple[_Job, NDArray[np.uint8]]]) -> None:
        if not batch:
            return
        started = time.perf_counter()
        try:
            detections = self._model.predict_many([pixels for _, pixels in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][0].answer.set_exception(error)
            else:  # one image must not cost its neighbours their answers
                for one in batch:
                    self._score([one])
            return
        seconds = (time.perf_counter() - started) / len(batch)
        for (job, pixels), detection in zip(batch, detections, strict=True):
            height, width = pixels.shape[:2]

            def made(job=job, pixels=pixels, detection=detection, height=height, width=width) -> Any:
                attention = self._model.attention(pixels) if job.with_attention else None
                return job.make(Scored(detection, height, width, seconds, attention))

            answer = _or_failure(job, made)
            if answer is not None:
                job.answer.set_result(answer)


def _or_failure(job: _Job, make: Callable[[], T]) -> T | None:
    """What ``make`` gives; None, with the error handed to who waits for the job, where it fails."""
    try:
        return make()
    except Exception as error:
        job.answer.set_exception(error)
        return None
