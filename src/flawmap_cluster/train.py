"""``flawmap train --cluster``: the nodes encode shards of the good images, this process does all else.

Bytes of files travel, so nodes need no disk in common: an actor on the node of this process reads them when they are
asked for. A worker asks for an image when its turn comes, and reads the next ones while it encodes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flawmap import __version__
from flawmap.data.images.files import decode_image, read_file
from flawmap.engine.elsewhere import Elsewhere, Work
from flawmap.errors import UserError
from flawmap_cluster.connect import connected
from flawmap_cluster.packed_model import refuse_other_version

READERS = 8  # files that are read at once
PATIENCE_S = 600.0  # until a worker is ready: it loads torch and the encoder


class Files:
    """An actor: reads the files of the machine with the command."""

    def read(self, path: Path) -> bytes | UserError:
        """The bytes of a file, or why it cannot be read."""
        try:
            return read_file(path)
        except UserError as error:
            return error


class Worker:
    """An actor: does tasks on one core of a node."""

    def __init__(self, work: Work, files: Any, version: str) -> None:
        self._work, self._files, self._version = work, files, version

    def ready(self) -> None:
        """Raises: UserError: the node has another flawmap."""
        refuse_other_version(self._version)

    def do(self, task: Any) -> Any:
        """The result of a task, or what a user has to mend."""
        try:
            return self._work(task, self._image)
        except UserError as error:
            return error

    def _image(self, path: Path) -> np.ndarray:
        import ray

        content: Any = ray.get(self._files.read.remote(path))
        if isinstance(content, UserError):
            raise content
        return decode_image(content, place=str(path))


def in_cluster(address: str) -> Elsewhere:
    """What does tasks in a Ray cluster.

    Args:
        address: as of :func:`flawmap_cluster.connect.connected`.
    """

    def elsewhere(work: Work, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        with connected(address):
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            from flawmap_cluster.pool import Pool

            this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            reader = ray.remote(num_cpus=0)(Files)
            files = reader.options(scheduling_strategy=this_node, max_concurrency=READERS).remote()
            actor, shared = ray.remote(num_cpus=1)(Worker), ray.put(work)
            # Tasks are long: a worker gets the next one when it is done, so that none waits behind another.
            spread = actor.options(scheduling_strategy="SPREAD")
            pool = Pool(lambda: spread.remote(shared, files, __version__), 1, "shard", PATIENCE_S)
            numbers = range(len(tasks))
            for number, result in pool.answers(numbers, lambda worker, number: worker.do.remote(tasks[number])):
                if isinstance(result, UserError):
                    raise result
                yield number, result

    return elsewhere
