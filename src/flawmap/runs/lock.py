"""One process at a time in a folder: two that write the same checkpoints would destroy each other's work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flawmap.errors import UserError


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder, by a lock file beside it; the system lets go of it when the process ends, however it ends.

    Raises:
        UserError: another process holds it.
    """
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        problem = "another process works in this folder"
        raise UserError(problem, str(folder), "wait until it is done, or choose another folder") from None
    try:
        yield
    finally:
        lock.release()
