"""The folder of a studio, which nothing leaves: every path that a page names is resolved and must lie inside it."""

import os
import re
from pathlib import Path

from flawmap.data.device_names import is_device_name
from flawmap.errors import UserError

OWN = ".flawmap-studio"  # state, thumbnails and jobs
RUNS, RESULTS = "runs", "detections"
MAX_NAME = 200  # characters of one part of a path
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*\\]')


class Place:
    """The folder, absolute and without links.

    Attributes:
        root: the folder.
        own: where the studio keeps what is its own.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve()
        self.own = self.root / OWN

    def existing(self, name: str) -> Path:
        """The file or folder of this name in the folder, links resolved.

        Args:
            name: relative, with forward slashes.

        Raises:
            UserError: it is not there, or lies outside of the folder.
        """
        try:
            path = (self.root / name).resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as error:  # ValueError: a null byte; RuntimeError: links in a circle
            raise UserError("there is no such file in this studio", name, "look at Images again") from error
        if not name or not path.is_relative_to(self.root):
            raise UserError("this path leads out of the studio's folder", name, "add the files to the folder")
        return path

    def new(self, name: str) -> Path:
        """Where a file of this name may be written; its folder need not exist yet.

        Raises:
            UserError: the name has a part that is hidden, ``..``, too long or a device of Windows, or leads outside.
        """
        parts = name.split("/")
        for part in parts:
            bad = not part or part.startswith(".") or part != part.strip() or part.endswith(".") or len(part) > MAX_NAME
            if bad or _FORBIDDEN.search(part) or is_device_name(part):
                raise UserError("a file cannot have this name here", name, "rename it, and drop it again")
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root):
            raise UserError("this path leads out of the studio's folder", name, "choose another folder")
        return path

    def relative(self, path: Path) -> str:
        """The name of a path in the folder, with forward slashes."""
        return Path(os.path.normpath(path)).relative_to(self.root).as_posix()
