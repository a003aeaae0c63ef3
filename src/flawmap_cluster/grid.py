"""The runs of a grid as tasks of a Ray cluster: stages that they share once, lost tasks again, answers as they come."""

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flawmap import __version__
from flawmap.engine.progress import duration, say
from flawmap.engine.stage import is_result
from flawmap.errors import UserError
from flawmap.runs.json_files import read_json
from flawmap.runs.run_folder import RunFolder
from flawmap_cluster.connect import connected
from flawmap_cluster.packed_model import refuse_other_version
from flawmap_cluster.scratch import scratch_folder
from flawmap_cluster.stage_store import Files, StageStore
from flawmap_cluster.stages import SUFFIXES, GridRun, StageElsewhereError, files_of, write_files

LOOK_S = 2.0  # between two looks for finished tasks
PATIENCE_S = 120.0  # without any core
MOST_RETRIES = 3  # of a task whose process or node dies

RowT = TypeVar("RowT")
AnswerT = TypeVar("AnswerT")
AsRun = Callable[[Path], RunFolder]
Task = Callable[[RowT, Path, AsRun], AnswerT]


@dataclass(frozen=True)
class Waiting:
    """A task has ended because another one computes a stage that it needs."""

    stage: str


def run_grid(
    address: str,
    rows: Mapping[str, RowT],
    task: Task[RowT, AnswerT],
    stages: Path,
    first_stage: Callable[[RowT], str] | None = None,
) -> Generator[tuple[str, AnswerT | UserError], None, None]:
    """Run all rows, each as a task with one core.

    Args:
        address: as of :func:`flawmap_cluster.connect.connected`.
        rows: by name.
        task: computes a row on a node, in an empty folder; it must open its run by its third argument, so that the
            run's stages are shared. It may be begun several times. Relative paths are those of this process, in the
            same folder on the node.
        stages: folder of stages on this disk; those in it are used, and new ones are written as they come.
        first_stage: rows with equal answers need the same stage first: one of them computes it, and only then the
            others begin. Without it, they begin at once, and end again where they find that another row computes it.

    Yields:
        each row's name with its answer, or with the error that the user can fix.

    Raises:
        UserError: the cluster has no cores for two minutes, or the node with the record of stages is lost.
    """
    with connected(address):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # not soft: a cluster that has just started may then take another node, which may be lost
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        on_disk = {path.stem: path for path in stages.glob(f"*{SUFFIXES[0]}") if is_complete(path)}
        store: Any = ray.remote(num_cpus=0)(StageStore).options(scheduling_strategy=here).remote(ray.put, list(on_disk))
        remote: Any = ray.remote(num_cpus=1, max_retries=MOST_RETRIES, scheduling_strategy="SPREAD")(run_here)

        def submit(name: str, after: Any = None) -> Any:
            return remote.remote(task, name, rows[name], store, __version__, str(Path.cwd()), after)

        before = {name: store.until_first_stage.remote(first) for name, first in waits(rows, first_stage).items()}
        under_way = {submit(name, before.get(name)): name for name in rows}
        progress, patience = Progress(len(rows)), Patience()
        while under_way:
            ready, _ = ray.wait(list(under_way), num_returns=len(under_way), timeout=LOOK_S)
            keep_new(store, stages, on_disk)
            patience.look(int(ray.cluster_resources().get("CPU", 0)))
            for reference in ready:
                name = under_way.pop(reference)
                answer = answer_of(reference, name)
                if isinstance(answer, Waiting):
                    if (path := on_disk.get(answer.stage)) is not None:
                        store.keep.remote(answer.stage, files_of(path))
                    under_way[submit(name, store.until_changed.remote(answer.stage))] = name
                    continue
                store.release.remote(name)
                progress.one_more()
                yield name, answer


def waits(rows: Mapping[str, RowT], first_stage: Callable[[RowT], str] | None) -> dict[str, str]:
    """The names of the rows that wait for another row's first stage, each with that row's name."""
    if first_stage is None:
        return {}
    computed_by: dict[str, str] = {}
    firsts = {name: computed_by.setdefault(first_stage(row), name) for name, row in rows.items()}
    return {name: first for name, first in firsts.items() if first != name}


def run_here(
    task: Task[RowT, AnswerT], name: str, row: RowT, store: Any, version: str, folder: str, _after: None
) -> AnswerT | UserError | Waiting:
    """A row, on a node; ``_after`` is what Ray waits for before it starts it."""

    def claim(stage: str) -> tuple[bool, Files | None]:
        must_wait, reference = wait_for(store.claim.remote(stage, name))
        return must_wait, None if reference is None else wait_for(reference)

    def keep(stage: str, files: Files) -> None:
        wait_for(store.keep.remote(stage, files))

    try:
        refuse_other_version(version)
        if not os.path.isdir(folder):
            problem = "a node does not have the folder in which the command was started"
            raise UserError(problem, folder, "data, and files that a recipe names, must lie at the same paths on all")
        with chdir(folder), scratch_folder() as scratch:
            return task(row, scratch, lambda path: GridRun(path, claim, keep))
    except StageElsewhereError as error:
        return Waiting(error.name)
    except UserError as error:
        return error


def wait_for(reference: Any) -> Any:
    """What ``ray.get`` returns. In a task, that gives the task's core to another one, which then runs beside it."""
    return reference.future().result()


def answer_of(reference: Any, name: str) -> Any:
    """What a task has returned; an error of its row where its processes died.

    Raises:
        UserError: the node with the record of stages is lost.
    """
    import ray
    from ray.exceptions import RayActorError, RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayError as error:
        cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else error
        if isinstance(cause, RayActorError):
            raise _no_record() from error
        if isinstance(error, RayTaskError):
            raise
        problem = f"its process died {1 + MOST_RETRIES} times ({type(error).__name__})"
        return UserError(problem, name, "look into Ray's logs of the nodes")


def keep_new(store: Any, stages: Path, on_disk: dict[str, Path]) -> None:
    """Write the stages that were finished since the last time, and add them to those on this disk.

    Raises:
        UserError: the node with the record of stages is lost.
    """
    import ray
    from ray.exceptions import RayActorError

    try:
        kept: Any = ray.get(store.kept.remote())
    except RayActorError as error:
        raise _no_record() from error
    for name, reference in kept.items():
        if name not in on_disk:
            on_disk[name] = stages / f"{name}{SUFFIXES[0]}"
            write_files(on_disk[name], ray.get(reference))


def _no_record() -> UserError:
    problem = "the node with the record of stages was lost"
    return UserError(problem, "", "the same command again runs what is missing")


def is_complete(stage: Path) -> bool:
    """Whether a stage's file is the whole result that the file beside it speaks of."""
    try:
        about = read_json(stage.with_suffix(SUFFIXES[1]), dict, "")
    except UserError:
        return False
    return is_result(stage, about.get("key"))


class Patience:
    """Ends the waiting for a cluster without cores."""

    def __init__(self) -> None:
        self._seen = time.monotonic()

    def look(self, cores: int) -> None:
        """Raises: UserError: there are none, and there were none for two minutes."""
        now = time.monotonic()
        self._seen = now if cores else self._seen
        if now - self._seen > PATIENCE_S:
            raise UserError("the cluster has no core", "", "look at `ray status`; the same command goes on")


class Progress:
    """Lines with the rate and the time left."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._started = total, 0, time.monotonic()
        say("cluster", f"{total} runs are tasks now")

    def one_more(self) -> None:
        """A row has its answer."""
        self._done += 1
        per_run = (time.monotonic() - self._started) / self._done
        left = duration(per_run * (self._total - self._done))
        say("cluster", f"{self._done}/{self._total} runs, {3600 / per_run:.1f} per hour, about {left} left")
