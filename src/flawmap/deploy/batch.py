"""Scores many images one after the other, in this process or in several, in bounded memory and in order."""

import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawmap.errors import UserError

if TYPE_CHECKING:
    from flawmap.deploy.opened_model import OpenedModel

AHEAD = 2  # images that each worker may be ahead of the slowest
Outcome = dict[str, Any] | UserError


@dataclass(frozen=True)
class Job:
    """An image, and where its overlay goes."""

    image: Path
    overlay: Path


def detect_one(model: "OpenedModel", job: Job) -> dict[str, Any]:
    """Score one image and write its overlay.

    Raises:
        UserError: the image cannot be read.
    """
    from PIL import Image

    from flawmap.data.images.files import read_image
    from flawmap.report.colour import ColourScale
    from flawmap.report.overlay import overlay

    pixels = read_image(job.image)
    (detection,) = model.predict_many([pixels])
    scale = model.facts.map_scale
    colours = ColourScale(scale.low, (scale.low + scale.high) / 2, scale.high)
    Image.fromarray(overlay(pixels, detection.anomaly_map, colours)).save(job.overlay)
    return {"image": str(job.image), **detection.to_json(), "overlay": str(job.overlay)}


def outcome_of(model: "OpenedModel", job: Job) -> Outcome:
    """The record of an image, or why there is none: one bad image must not cost the others."""
    try:
        return detect_one(model, job)
    except UserError as error:
        return error


def outcomes(
    model: "OpenedModel", jobs: Sequence[Job], path: Path, device: str, workers: int
) -> Iterator[tuple[Job, Outcome]]:
    """Each job with its outcome, in order.

    Args:
        model: opened, for this process.
        jobs: what to score.
        path: of the model, for workers to open.
        device: for workers.
        workers: processes; 1 scores in this one.

    Raises:
        UserError: a worker has died.
    """
    if workers == 1 or len(jobs) < 2:
        yield from ((job, outcome_of(model, job)) for job in jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _open, (str(path), device, workers))
    waiting: deque[tuple[Job, Future[Outcome]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, pool.submit(_score, job)))
            if len(waiting) > AHEAD * workers:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    except BrokenProcessPool as error:
        remedy = "go on with --resume and fewer --workers"
        raise UserError("a worker process died; was there too little memory?", "--workers", remedy) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first(waiting: deque[tuple[Job, "Future[Outcome]"]]) -> tuple[Job, Outcome]:
    job, future = waiting.popleft()
    return job, future.result()


_model: "OpenedModel | None" = None  # of a worker process


def _open(path: str, device: str, workers: int) -> None:
    import os

    from flawmap.deploy.opened_model import open_model

    global _model
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that hands out the work
    _model = open_model(path, device, threads=max(1, (os.cpu_count() or 1) // workers))


def _score(job: Job) -> Outcome:
    assert _model is not None
    return outcome_of(_model, job)
