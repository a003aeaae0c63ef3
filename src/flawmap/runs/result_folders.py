"""Folders that commands write to: names that overwrite nothing, and one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.errors import UserError

if TYPE_CHECKING:
    from filelock import FileLock

RENAME_ATTEMPTS = 10  # another process may take a name between two looks


@contextmanager
def exclusive(
    folder: Path,
    problem: str = "another process works in this folder",
    remedy: str = "wait until it is done, or choose another folder",
) -> Iterator[None]:
    """Hold a folder or file: two processes that write the same checkpoints would destroy each other's work.

    The lock is a file beside it, which the system releases when the process ends, however it ends.

    Raises:
        UserError: another process holds it; with ``problem`` and ``remedy``.
    """
    lock = _lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        raise UserError(problem, str(folder), remedy) from None
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder now, as of :func:`exclusive`."""
    lock = _lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return True
    lock.release()
    return False


def _lock_of(folder: Path) -> "FileLock":
    from filelock import FileLock  # here, because few commands need it

    return FileLock(folder.parent / f".{folder.name}.lock")


def new_folder(path: Path) -> Path:
    """A folder of our own: ``path``, or the first free name as of :func:`free_path`.

    An empty folder counts as free, so write into it at once: a process that asks before there is a file gets it, too.
    """
    while True:
        candidate = free_path(path)
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            if any(candidate.iterdir()):
                continue
        return candidate


def put_in_place(folder: Path, final: Path) -> None:
    """Give a finished folder its name; what has that name already is kept as ``NAME-earlier``, ``NAME-earlier-2``, ...

    Of two processes that finish at the same moment, the later one's folder has the name in the end.
    """
    for attempt in range(RENAME_ATTEMPTS):
        try:
            if final.is_dir() and not any(final.iterdir()):
                final.rmdir()
            elif final.exists():
                final.rename(free_path(final.with_name(f"{final.name}-earlier")))
            folder.rename(final)
        except OSError:  # another process was faster with one of these
            if attempt == RENAME_ATTEMPTS - 1:
                raise
        else:
            return


def free_path(path: Path) -> Path:
    """``path`` if nothing is there, else the first free ``path-2``, ``path-3``, ...: nothing is overwritten.

    An empty folder counts as nothing.
    """
    if path.name in ("", ".."):  # a number cannot be added to "." or ".."
        path = path.resolve()
    stem, suffix = (path.stem, path.suffix) if path.is_file() else (path.name, "")
    candidate, number = path, 2
    while candidate.exists() and not (candidate.is_dir() and not any(candidate.iterdir())):
        candidate, number = path.with_name(f"{stem}-{number}{suffix}"), number + 1
    return candidate
