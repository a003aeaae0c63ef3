"""Stages of the runs of a grid, each computed once in the cluster: the task that needs it first does, others wait.

A stage's name is that of its file in ``stages/``, which holds the hash of all that determines its result. Files travel
through Ray's object store, so nodes need no disk in common.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flawmap.engine.stage import is_result
from flawmap.reproducibility import atomic_write_bytes
from flawmap.runs.run_folder import RunFolder

SUFFIXES = (".safetensors", ".json")  # of a stage's files; the second makes it complete

Files = dict[str, bytes]  # of a stage, by suffix


class StageElsewhereError(Exception):
    """A stage is not here: another task computes it, or it lies on the disk of the machine with the command."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class StageStore:
    """An actor that says which stages are done and who computes the others.

    Args:
        put: keeps an object in the cluster and gives its reference: ``ray.put``.
        on_disk: names of the stages on the disk of the machine with the command, which sends what is asked for.
    """

    def __init__(self, put: Callable[[Any], Any], on_disk: Sequence[str] = ()) -> None:
        self._put, self._on_disk = put, set(on_disk)
        self._kept: dict[str, Any] = {}
        self._computed_by: dict[str, str] = {}
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def claim(self, name: str, task: str) -> tuple[bool, Any]:
        """Ask for a stage.

        Args:
            name: of the stage.
            task: the one that asks; when it is tried again, it may compute what it has begun before.

        Returns:
            whether the task must wait, and the reference of the stage's files; where it is neither, the task computes
            the stage.
        """
        if name in self._kept:
            return False, self._kept[name]
        if name in self._on_disk or self._computed_by.setdefault(name, task) != task:
            return True, None
        return False, None

    async def keep(self, name: str, files: Files) -> None:
        """A stage is done; of two results, the first counts."""
        if name not in self._kept:
            self._kept[name] = self._put(files)
        self._announce(name)

    async def release(self, task: str) -> None:
        """A task has ended: what it has begun and not finished, others may compute."""
        for name in [name for name, by in self._computed_by.items() if by == task and name not in self._kept]:
            del self._computed_by[name]
            self._announce(name)

    async def until_changed(self, name: str) -> None:
        """Returns when a stage is done, or nobody computes it any more."""
        if name not in self._kept and (name in self._computed_by or name in self._on_disk):
            await self._changed[name].wait()

    async def kept(self) -> dict[str, Any]:
        """References of the files of all stages that are done."""
        return dict(self._kept)

    def _announce(self, name: str) -> None:
        self._changed.pop(name, asyncio.Event()).set()


class GridRun(RunFolder):
    """A run folder whose finished stages are shared with the tasks of a grid, on whatever node.

    Args:
        path: of the run.
        claim: see :meth:`StageStore.claim`, with files in place of their reference.
        keep: see :meth:`StageStore.keep`.
    """

    def __init__(
        self,
        path: Path,
        claim: Callable[[str], tuple[bool, Files | None]],
        keep: Callable[[str, Files], None],
    ) -> None:
        super().__init__(path)
        self._claim, self._keep = claim, keep
        self._settled: set[str] = set()  # stages that are on this disk because of a claim, or were kept

    def shared_stage(self, stage: str, key: str) -> Path:
        """The file that other runs find, or in which a result of theirs is now; see :class:`StageStore`.

        Raises:
            StageElsewhereError: the stage is to be waited for.
        """
        path = super().shared_stage(stage, key)
        if path.stem in self._settled:
            return path
        if is_result(own := self.stage_output(stage), key):
            self._keep(path.stem, files_of(own))
        else:
            must_wait, files = self._claim(path.stem)
            if must_wait:
                raise StageElsewhereError(path.stem)
            if files is None:  # to be computed here
                return path
            write_files(path, files)
        self._settled.add(path.stem)
        return path


def files_of(stage: Path) -> Files:
    """The content of a stage's files."""
    return {suffix: stage.with_suffix(suffix).read_bytes() for suffix in SUFFIXES}


def write_files(stage: Path, files: Mapping[str, bytes]) -> None:
    """Write what :func:`files_of` has read; a stage that is not complete does not count."""
    stage.parent.mkdir(parents=True, exist_ok=True)
    for suffix in SUFFIXES:
        atomic_write_bytes(stage.with_suffix(suffix), files[suffix])
