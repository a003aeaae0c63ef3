"""A queue of uploads in front of one model, which a single thread uses, a few images at a time."""

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
    """What the model computed for one upload.

    Attributes:
        detection: the verdict.
        height, width: of the upright image, in pixels.
        seconds: the time of its batch, divided by the size of the batch.
        attention: (r, c) on the patch grid where it was asked for and the model provides it.
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
    """The queue takes no more uploads for the moment."""


class WorkQueue:
    """Uploads in, answers out, in the order of arrival.

    The queue holds the bytes of the uploads. At most ``batch_size`` images are decoded at a time, and their pixels are
    at most ``max_pixels`` together, not counting one image that did not fit and is scored next. Answers are made in the
    same thread, so that maps cannot pile up. Memory is therefore bounded by what two images may need.

    Args:
        model: used by one thread only.
        capacity: uploads that may wait.
        batch_size: the most images that are handed to the model together.
        max_pixels: of one image.
    """

    def __init__(self, model: OpenedModel, capacity: int, batch_size: int, max_pixels: int) -> None:
        self._model, self._batch_size, self._max_pixels = model, batch_size, max_pixels
        self._jobs: queue.Queue[_Job | None] = queue.Queue(capacity)  # None ends the thread
        self._closing = threading.Event()
        self._submitting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="flawmap-model", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether new uploads are accepted."""
        return self._thread.is_alive() and not self._closing.is_set()

    @property
    def waiting(self) -> int:
        """Uploads in the queue."""
        return self._jobs.qsize()

    def submit(self, data: bytes, make: Callable[[Scored], T], with_attention: bool = False) -> "Future[T]":
        """Queue an upload; the future gets its answer, or the UserError that explains what is wrong with the image.

        Args:
            data: an image file.
            make: makes the answer; called in the queue's thread.
            with_attention: also compute the attention.

        Raises:
            QueueFullError: too many uploads wait, or the queue is closing.
        """
        job = _Job(data, with_attention, make, Future())
        with self._submitting:  # no job may follow the None that ends the thread
            if not self.is_open:
                raise QueueFullError
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise QueueFullError from None
        return job.answer

    def close(self) -> None:
        """Accept nothing new, answer what waits, and end the thread."""
        with self._submitting:
            was_closing = self._closing.is_set()
            self._closing.set()
        if not was_closing:
            self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_last = False
        while not is_last:
            jobs, is_last = self._next_jobs()
            self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])

    def _next_jobs(self) -> tuple[list[_Job], bool]:
        """Wait for a job and take up to ``batch_size`` that are there; and whether they are the last."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == self._batch_size:
                return jobs, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

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
            detections = self._model.predict_many([pixels for _, pixels in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][0].answer.set_exception(error)
            else:  # one failing image must not cost the others their answers
                for job_and_pixels in batch:
                    self._score([job_and_pixels])
            return
        seconds = (time.perf_counter() - started) / len(batch)
        for (job, pixels), detection in zip(batch, detections, strict=True):
            try:
                attention = self._model.attention(pixels) if job.with_attention else None
                height, width = pixels.shape[:2]
                answer = job.make(Scored(detection, height, width, seconds, attention))
            except Exception as error:
                job.answer.set_exception(error)
            else:
                job.answer.set_result(answer)
