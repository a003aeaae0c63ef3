"""Stages of the runs of a grid, each computed once in the cluster: the task that needs it first does, others wait.

A stage's name is that of its file in ``stages/``, which holds the hash of all that determines its result. This module
imports no torch, so that the process of the store starts at once and stays small.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

Files = dict[str, bytes]  # of a stage, by suffix


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
        self._has_stage: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)  # by task

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
            self._has_stage[task].set()
            return False, self._kept[name]
        if name in self._on_disk or self._computed_by.setdefault(name, task) != task:
            return True, None
        return False, None

    async def keep(self, name: str, files: Files) -> None:
        """A stage is done; of two results, the first counts."""
        if name not in self._kept:
            self._kept[name] = self._put(files)
        if name in self._computed_by:
            self._has_stage[self._computed_by[name]].set()
        self._announce(name)

    async def release(self, task: str) -> None:
        """A task has ended: what it has begun and not finished, others may compute."""
        for name in [name for name, by in self._computed_by.items() if by == task and name not in self._kept]:
            del self._computed_by[name]
            self._announce(name)
        self._has_stage[task].set()

    async def until_first_stage(self, task: str) -> None:
        """Returns when a task has its first stage, or has ended."""
        await self._has_stage[task].wait()

    async def until_changed(self, name: str) -> None:
        """Returns when a stage is done, or nobody computes it any more."""
        if name not in self._kept and (name in self._computed_by or name in self._on_disk):
            await self._changed[name].wait()

    async def kept(self) -> dict[str, Any]:
        """References of the files of all stages that are done."""
        return dict(self._kept)

    def _announce(self, name: str) -> None:
        self._changed.pop(name, asyncio.Event()).set()
