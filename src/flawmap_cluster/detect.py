"""``flawmap detect --cluster``: this process reads the files and writes the results, the nodes decode, score and draw.

Bytes of files travel, so nodes need no disk in common. What lies in a store is read by the node itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flawmap import __version__
from flawmap.data.images.files import decode_image, read_file, read_image
from flawmap.deploy.batch import Drawn, FactsByName, Finished, Job, Scored, ScoresElsewhere, finished
from flawmap.deploy.opened_model import open_model
from flawmap.errors import UserError
from flawmap.storage.remote_file import RemoteFile
from flawmap_cluster.connect import connected
from flawmap_cluster.packed_model import packed, refuse_other_version, unpacked
from flawmap_cluster.scratch import scratch_folder


class Scorer:
    """An actor: a model on one core of a node."""

    def __init__(self, content: bytes, facts: FactsByName, drawn: Drawn, device: Any, version: str) -> None:
        self._content, self._facts, self._drawn, self._device = content, facts, drawn, device
        self._version = version

    def ready(self) -> None:
        """Open the model.

        Raises:
            UserError: the node has another flawmap, or cannot open the model.
        """
        refuse_other_version(self._version)
        with scratch_folder() as folder:  # Ray kills actors, which then remove nothing
            model = open_model(unpacked(self._content, folder), self._device, threads=1)
        self._content, self._models = b"", {name: model.with_facts(facts) for name, facts in self._facts.items()}

    def score(self, job: Job, content: bytes | None) -> Finished | UserError:
        """The outcome of an image; ``content`` of its file, None where it is in a store."""
        try:
            image = read_image(job.image) if content is None else decode_image(content, place=str(job.image))
            (detection,) = self._models[job.judged_as].predict_many([image])
        except UserError as error:
            return error
        return finished(job, image, detection, self._facts[job.judged_as], self._drawn)


def in_cluster(address: str, model: Path, device: str) -> ScoresElsewhere:
    """What scores the images of a batch in a Ray cluster, in the order in which they are done.

    Args:
        address: as of :func:`flawmap_cluster.connect.connected`.
        model: path of the model on this machine.
        device: of each node.
    """

    def scored(jobs: Sequence[Job], facts: FactsByName, drawn: Drawn) -> Scored:
        with connected(address):
            import ray

            from flawmap_cluster.pool import Pool

            actor, content = ray.remote(num_cpus=1)(Scorer), ray.put(packed(model))
            pool = Pool(
                lambda: actor.options(scheduling_strategy="SPREAD").remote(content, facts, drawn, device, __version__)
            )
            unreadable: dict[Job, UserError] = {}

            def give(worker: Any, job: Job) -> Any:
                if isinstance(job.image, RemoteFile):
                    return worker.score.remote(job, None)
                try:
                    return worker.score.remote(job, read_file(job.image))
                except UserError as error:
                    unreadable[job] = error
                    return worker.score.remote(job, b"")

            for job, outcome in pool.answers(jobs, give):
                yield job, unreadable.pop(job, outcome)

    return scored
