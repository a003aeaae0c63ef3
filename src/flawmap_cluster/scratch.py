"""Folders in which tasks of a cluster work: those of tasks that were killed are removed by later tasks of the node."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

PREFIX = "flawmap-task-"
HELD = ".held"  # a lock in the folder, which the system releases when the process ends, however it ends
YOUNG_S = 60.0  # a folder younger than this may not have its lock yet


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder beside those of other tasks, removed at the end."""
    remove_left(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder,
        FileLock(Path(folder) / HELD),
    ):
        inside = Path(folder) / "task"
        inside.mkdir()
        yield inside


def remove_left(parent: Path) -> None:
    """Remove the folders of this user's tasks that have ended without doing so, because they were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            about, held = folder.lstat(), folder / HELD
            is_young = time.time() - about.st_mtime < YOUNG_S
            if folder.is_symlink() or not _is_ours(about.st_uid) or is_young or not held.is_file():
                continue
            with FileLock(held, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, TimeoutError):  # removed by another task; or at work
            continue


def _is_ours(user: int) -> bool:
    return not hasattr(os, "geteuid") or user == os.geteuid()
