"""Counts how often files are opened."""

import os
import sys
from collections import Counter


class OpenedFiles:
    """Counts how often Python opens each file of a folder while it is on; an audit hook cannot be removed again."""

    def __init__(self) -> None:
        self.below: str | None = None
        self.counts: Counter[str] = Counter()

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and self.below and isinstance(arguments[0], str | os.PathLike):
            path = os.fspath(arguments[0])
            if path.startswith(self.below):
                self.counts[os.path.relpath(path, self.below)] += 1


OPENED = OpenedFiles()
sys.addaudithook(OPENED)
