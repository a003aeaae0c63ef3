"""A disk whose process is killed before one of its changes, to test that every moment leaves something usable."""

import os
from collections.abc import Callable

import pytest

CALLS = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir")  # of os: all that change the disk


class Killed(BaseException):
    """The process has ended here."""


class Disk:
    """Ends the process before the n-th change of the disk; what it would have done after that does not happen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kill_at: int) -> None:
        self.left, self.is_dead = kill_at, False
        for name in CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            self.left -= 1
            if self.left < 0:
                self.is_dead = True
                raise Killed
            return call(*arguments, **options)

        return counted
