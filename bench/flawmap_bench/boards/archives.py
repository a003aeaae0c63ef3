"""The folder of a run as bytes, which a node sends and the machine with the command puts in its place."""

import io
import secrets
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from flawmap.runs.result_folders import exclusive


def packed(folder: Path, leave_out: Callable[[Path], bool] = lambda path: False) -> bytes:
    """The files of a folder as an uncompressed archive, without those that ``leave_out`` is true for."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not leave_out(path):
                archive.add(path, str(path.relative_to(folder)))
    return buffer.getvalue()


def put_in_place_of(content: bytes, final: Path, complete: Callable[[Path], None] = lambda folder: None) -> None:
    """A folder that :func:`packed` was given, in place of an unfinished one of this name.

    Args:
        content: the archive.
        final: the folder's path here.
        complete: adds what is missing, before the folder gets its name.
    """
    unfinished = final.with_name(f".{final.name}-{secrets.token_hex(4)}")
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(unfinished, filter="data")
        complete(unfinished)
        with exclusive(final):
            shutil.rmtree(final, ignore_errors=True)
            unfinished.rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
