"""The files of a folder or a pattern, as they are now."""

import glob
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from flawmap.data.sample import LeftOut
from flawmap.data.walk import walk, without_companions
from flawmap.errors import UserError
from flawmap.watch.complete_files import FileState


class WatchedFolder:
    """A folder and what is below it, read as ``flawmap detect`` reads it, or the matches of a pattern.

    Args:
        place: a folder or a pattern.
        without: folders that are not watched, because judged files go there.

    Attributes:
        name: as it was given.
        root: the folder; None of a pattern.

    Raises:
        UserError: there is no such folder, or a file is given.
    """

    def __init__(self, place: str, without: Iterable[Path] = ()) -> None:
        self._place = place
        self._without = {folder.resolve() for folder in without}
        self._is_folder = Path(place).is_dir()
        self.name = place
        self.root = Path(place).absolute() if self._is_folder else None
        if not self._is_folder and not glob.has_magic(place):
            if Path(place).exists():
                raise UserError("this is a file; only folders can be watched", place, "flawmap detect judges files")
            remedy = f"make it, or check the path (you are in {Path.cwd()})"
            raise UserError("there is no such folder", place, remedy)
        if self._is_folder and Path(place).resolve() in self._without:
            raise UserError("judged files cannot go to the folder that is watched", place, "choose another folder")

    def files(self) -> list[FileState]:
        """What is there; what is no image has a reason.

        Raises:
            UserError, OSError: the folder cannot be read now, for example because its share is not there.
        """
        if not self._is_folder:
            matches = [Path(match) for match in glob.glob(self._place, recursive=True)]
            return _states((path, None) for path in matches if path.parent.resolve() not in self._without)
        found = without_companions(walk(Path(self._place), passes_over=lambda path: path.resolve() in self._without))
        left_out = [item for item in found.left_out if not item.path.is_dir()]
        images: list[tuple[Path, LeftOut | None]] = [(path, None) for path in found.images]
        return _states([*images, *((item.path, item) for item in left_out)])


def _states(found: Iterable[tuple[Path, LeftOut | None]]) -> list[FileState]:
    states = []
    for path, left_out in found:
        try:
            status = path.stat()
        except OSError:  # it was removed since, or is a broken link
            continue
        reason = left_out.reason if left_out else None
        try:
            os.fspath(path).encode()
        except UnicodeEncodeError:
            reason = "its name is not UTF-8; rename it"
        if stat.S_ISREG(status.st_mode):
            states.append(FileState(path, status.st_size, status.st_mtime_ns, reason))
    return states
