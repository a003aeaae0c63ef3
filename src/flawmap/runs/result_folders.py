"""Names for what a command writes, so that nothing that is there is overwritten."""

from pathlib import Path

RENAME_ATTEMPTS = 10  # another process may take a name between two looks


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
