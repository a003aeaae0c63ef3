"""Move judged files into folders: nothing is overwritten, and what a crash has left half-way is finished later.

The journal knows the name that a file gets before it gets it. A crash leaves one of four states, which
:func:`finish_move` tells apart: not moved, a name that is reserved but empty, both names, or the new name alone.
"""

import errno
import os
import re
import shutil
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import fromarray

from flawmap.reproducibility import file_sha256
from flawmap.watch.journal import Journal, Unmoved
from flawmap.watch.message import Image


def finish_move(journal: Journal, unmoved: Unmoved) -> Path | None:
    """Move a judged file, wherever an earlier attempt has stopped.

    Args:
        journal: has the file's row.
        unmoved: the file, and where it is to go.

    Returns:
        where the file is now; None if it is gone, or was changed since it was judged. A changed file is another one,
        which is judged for itself; one that is gone may come back, for example with its network share.

    Raises:
        OSError: the folder cannot be written, or the disk is full. The file is where it was.
    """
    source, target = Path(unmoved.image.name), unmoved.moving_to
    is_there = _is_unchanged(source, unmoved.image)
    if target is not None and _holds(target, unmoved.image, is_there):
        if is_there:
            os.unlink(source)
        journal.note_moved(unmoved.number, target)
        return target
    if not is_there:
        if source.exists():
            journal.leave_unmoved(unmoved.number)
        return None
    unmoved.folder.mkdir(parents=True, exist_ok=True)
    if target is not None and target.is_file() and target.stat().st_size == 0:  # the name that was reserved for it
        os.unlink(target)
    while True:
        target = _free_name(unmoved.folder, source.name, unmoved.number)
        journal.plan_move(unmoved.number, target)
        try:
            _move_to_new_name(source, target, unmoved.number)
        except FileExistsError:  # another program took the name
            continue
        journal.note_moved(unmoved.number, target)
        return target


def save_frame(folder: Path, image: Image, pixels: NDArray[np.uint8]) -> Path:
    """Write a frame as PNG under a name of its own, such as ``camera-0_2026-11-30T11-51-48.123456.png``.

    Args:
        folder: made where there is none.
        image: the frame.
        pixels: uint8 (h, w, 3) in RGB.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromtimestamp(image.time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
    name = f"{re.sub(r'[^A-Za-z0-9]+', '-', image.name).strip('-')}_{moment}"
    part = folder / f".{name}.part"
    fromarray(pixels).save(part, "PNG", compress_level=1)
    for number in count(1):
        target = folder / f"{name}{f'-{number}' if number > 1 else ''}.png"
        try:
            _reserve(target)
        except FileExistsError:
            continue
        os.replace(part, target)
        return target
    raise AssertionError("count() has no end")


def _is_unchanged(path: Path, image: Image) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (image.size_bytes, image.time_ns)


def _holds(target: Path, image: Image, is_there: bool) -> bool:
    """Whether the file has arrived at its new name; an empty one, only if it is no longer at the old name."""
    try:
        if target.lstat().st_size != image.size_bytes or (is_there and not image.size_bytes):
            return False
        return not image.sha256 or file_sha256(target) == image.sha256
    except FileNotFoundError:
        return False


def _free_name(folder: Path, name: str, number: int) -> Path:
    """The file's own name, else the same with the number of its row, which no other file has."""
    path = folder / name
    stem, suffix = path.stem, path.suffix
    for attempt in count():
        if not os.path.lexists(path):
            return path
        path = folder / f"{stem}-{number}{f'-{attempt}' if attempt else ''}{suffix}"
    raise AssertionError("count() has no end")


def _move_to_new_name(source: Path, target: Path, number: int) -> None:
    """Raises: FileExistsError: the name is taken."""
    try:
        os.link(source, target)  # unlike a rename, it never replaces a file
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            _copy_to_new_name(source, target, number)
        else:  # a file system without links, such as FAT and many network shares
            _reserve(target)
            os.replace(source, target)
            return
    os.unlink(source)


def _copy_to_new_name(source: Path, target: Path, number: int) -> None:
    """To another file system: complete under a hidden name first."""
    part = target.with_name(f".{number}-{target.name}.part")
    try:
        shutil.copy2(source, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        _reserve(target)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _reserve(target: Path) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
