"""``flawmap evaluate --cluster``: the nodes decode and score, this process measures and writes in the data's order.

Bytes of files travel to the nodes, and maps come back.
"""

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flawmap import __version__
from flawmap.data.images.files import decode_with_remarks, read_file
from flawmap.data.sample import LabelledImage
from flawmap.deploy.runtime import is_exported
from flawmap.errors import UserError
from flawmap.evaluate.evaluable import AnalysesElsewhere, Evaluable, ScoredFile
from flawmap_cluster.connect import connected
from flawmap_cluster.packed_model import packed, refuse_other_version, unpacked
from flawmap_cluster.scratch import scratch_folder

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Numbered:
    """An image file and its place among the others."""

    number: int
    path: Path

    def __str__(self) -> str:
        return str(self.path)


class Analyst:
    """An actor: a model on one core of a node."""

    def __init__(self, content: bytes, device: Any, version: str) -> None:
        self._content, self._device, self._version = content, device, version

    def ready(self) -> None:
        """Open the model.

        Raises:
            UserError: the node has another flawmap, or cannot open the model.
        """
        refuse_other_version(self._version)
        with scratch_folder() as folder:  # Ray kills actors, which then remove nothing
            self._model = opened(unpacked(self._content, folder), self._device)
        self._content = b""

    def analyse(self, content: bytes, place: str, camera: str | None = None) -> ScoredFile | UserError:
        """What the model says of an image, from the bytes of its file, and the camera that took it, where known."""
        try:
            image = decode_with_remarks(content, place=place)
            started = time.perf_counter()
            (analysis,) = self._model.analyse_many([image.pixels], [place], [camera])
        except UserError as error:
            return error
        return ScoredFile(analysis, image.orientation, time.perf_counter() - started)


def opened(path: Path, device: Any) -> Evaluable:
    """A run, a model folder or an exported file, on one core of a processor or on an accelerator.

    Raises:
        UserError: it cannot be opened.
    """
    if is_exported(path):
        from flawmap.deploy.evaluate_file import ExportedFile
        from flawmap.deploy.runtime import load

        return ExportedFile(load(path, threads=1))
    from flawmap.detect.detector import AnomalyDetector

    return AnomalyDetector.from_pretrained(path, device, threads=1)


def in_cluster(address: str, model: Path) -> AnalysesElsewhere:
    """What scores the images of an evaluation in a Ray cluster.

    Args:
        address: as of :func:`flawmap_cluster.connect.connected`.
        model: path of the model on this machine.
    """

    def scored(samples: Sequence[LabelledImage], device: str) -> Generator[ScoredFile, None, None]:
        with connected(address):
            import ray

            from flawmap_cluster.pool import Pool

            actor, content = ray.remote(num_cpus=1)(Analyst), ray.put(packed(model))
            pool = Pool(lambda: actor.options(scheduling_strategy="SPREAD").remote(content, device, __version__))

            def give(worker: Any, task: Numbered) -> Any:
                return worker.analyse.remote(read_file(task.path), str(task.path), samples[task.number].camera)

            tasks = [Numbered(number, sample.path) for number, sample in enumerate(samples)]
            for answer in in_order((task.number, answer) for task, answer in pool.answers(tasks, give)):
                if isinstance(answer, UserError):
                    raise answer
                yield answer

    return scored


def in_order(answers: Iterable[tuple[int, AnswerT]]) -> Generator[AnswerT, None, None]:
    """Answers by their numbers, 0, 1, 2, ...; those that come early wait in memory."""
    early: dict[int, AnswerT] = {}
    next_number = 0
    for number, answer in answers:
        early[number] = answer
        while next_number in early:
            yield early.pop(next_number)
            next_number += 1
