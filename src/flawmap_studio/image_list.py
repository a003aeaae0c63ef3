"""The images of a studio: found on the disk, with what they are used for and what people said about them."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from flawmap.data.layouts.folder_names import meaning_of
from flawmap.data.products import part_names
from flawmap.data.sample import LeftOut
from flawmap.data.walk import walk, without_companions
from flawmap.errors import UserError
from flawmap_studio.place import Place
from flawmap_studio.state import State

Use = Literal["learn", "test"]
Label = Literal["good", "defect", "unsure", ""]
USES, LABELS = get_args(Use), get_args(Label)
CAMERAS = "cameras"  # a setting of the studio
GOOD, TEST = "good", "test"  # folders for images that are dropped


@dataclass(frozen=True)
class StudioImage:
    """An image.

    Attributes:
        path: relative to the folder, with forward slashes.
        size_bytes: of the file.
        mtime_ns: when the file was changed; with its size, the version of the image.
        use: to learn from, or to test with.
        label: what it is according to people or its folder; empty where nobody said.
        camera: that took it, as people said of its folder; None where nobody said.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    use: Use
    label: Label
    camera: str | None = None

    @property
    def group(self) -> str:
        """The folder that it lies in."""
        parent = str(PurePosixPath(self.path).parent)
        return "" if parent == "." else parent


class ImageList:
    """All images in the folder, in the order of their paths.

    Attributes:
        left_out: what was passed over in the last scan.
    """

    def __init__(self, place: Place, state: State) -> None:
        self._place, self._state, self._lock = place, state, threading.Lock()
        self.left_out: tuple[LeftOut, ...] = ()

    def scan(self) -> None:
        """Look what is on the disk; labels of images that are still there are kept."""
        with self._lock:
            listing = without_companions(walk(self._place.root, passes_over=self._passes_over))
            self.left_out = listing.left_out
            found = {}
            for path in listing.images:
                if not path.resolve().is_relative_to(self._place.root) or not path.is_file():
                    continue
                status = path.stat()
                found[self._place.relative(path)] = (status.st_size, status.st_mtime_ns)
            known = {row[0]: row for row in self._state.ask("SELECT * FROM images")}
            self._state.change("DELETE FROM images WHERE path = ?", [(path,) for path in known.keys() - found.keys()])
            rows = []
            for path, version in found.items():
                if path not in known:
                    rows.append((path, *version, *by_folder(path)))
                elif known[path][1:3] != version:
                    rows.append((path, *version, *known[path][3:]))
            self._state.change("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", rows)

    def _passes_over(self, folder: Path) -> LeftOut | bool:
        if not folder.resolve().is_relative_to(self._place.root):
            return LeftOut(folder, "it leads out of the studio's folder", "link")
        return meaning_of(folder.name) == "masks"

    def add(self, path: Path, use: Use, label: Label) -> None:
        """An image that was just written."""
        status = path.stat()
        row = (self._place.relative(path), status.st_size, status.st_mtime_ns, use, label)
        self._state.change("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", [row])

    def all(self) -> list[StudioImage]:
        """Every image."""
        cameras = self.cameras
        rows = self._state.ask("SELECT * FROM images ORDER BY path")
        return [StudioImage(*row, camera=camera_of(row[0], cameras)) for row in rows]

    def of(self, path: str) -> StudioImage:
        """One image.

        Raises:
            UserError: it is not in the list.
        """
        found = self._state.ask("SELECT * FROM images WHERE path = ?", (path,))
        if not found:
            raise UserError("there is no such image in this studio", path, "look at Images again")
        return StudioImage(*found[0], camera=camera_of(path, self.cameras))

    def label(self, paths: list[str], label: Label | None, use: Use | None) -> None:
        """Say what images are, or what they are used for; None keeps it."""
        for column, value in (("label", label), ("use", use)):
            if value is not None:
                self._state.change(f"UPDATE images SET {column} = ? WHERE path = ?", [(value, path) for path in paths])

    @property
    def cameras(self) -> dict[str, str]:
        """The camera that took the images of a folder and those below it, by folder."""
        return self._state.setting(CAMERAS, {})

    def name_camera(self, folder: str, camera: str | None) -> None:
        """Say which camera took the images of a folder; None: nobody knows, or the folder above says it.

        Raises:
            UserError: a camera cannot have this name.
        """
        part_names(None, camera, folder or "this folder", "camera")
        others = {name: one for name, one in self.cameras.items() if name != folder}
        self._state.set(CAMERAS, others | {folder: camera} if camera else others)

    def chosen(self, use: Use, label: Label | None = None) -> list[StudioImage]:
        """The images for a use, of one label or of all."""
        return [image for image in self.all() if image.use == use and label in (None, image.label)]


def camera_of(path: str, cameras: Mapping[str, str]) -> str | None:
    """The camera of the nearest folder around an image that has one.

    >>> camera_of("good/left/a/1.png", {"good": "top", "good/left": "left"}), camera_of("1.png", {"good": "top"})
    ('left', None)
    """
    folders = ("" if str(folder) == "." else str(folder) for folder in PurePosixPath(path).parents)
    return next((cameras[folder] for folder in folders if folder in cameras), None)


def by_folder(path: str) -> tuple[Use, Label]:
    """What the folders that an image lies in say about it, until somebody says otherwise.

    As in flawmap's other verbs, only folders with harmless names hold good parts, so that no defect is learned.

    >>> by_folder("parts/lot_3/01.png"), by_folder("bubbles/01.png"), by_folder("test/scratch/01.png")
    (('learn', 'good'), ('learn', ''), ('test', 'defect'))
    """
    folders = PurePosixPath(path).parts[:-1]
    meanings = [meaning_of(folder) for folder in folders]
    splits = [folder.casefold() for folder, meaning in zip(folders, meanings, strict=True) if meaning == "split"]
    use: Use = "test" if any(not split.startswith("train") for split in splits) else "learn"
    if "bad" in meanings:
        return "test", "defect"
    if "good" in meanings:
        return use, "good"
    if use == "test":
        return use, ""
    return use, "" if "unknown" in meanings else "good"
