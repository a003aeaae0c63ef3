"""Sub-folders of a plain folder whose images cannot be taken for good ones, and what to say about them."""

from collections.abc import Sequence
from pathlib import Path

from flawmap.advice import command
from flawmap.data.layouts.folder_names import meaning_of
from flawmap.data.layouts.image_folders import NOT_GOOD
from flawmap.data.sample import LeftOut
from flawmap.errors import UserError

UNKNOWN = "its name does not tell whether its images are good; if they are, name it as a further folder of data"


class OtherFolders:
    """The folders below ``root`` that hold some of the ``images`` and whose names are not harmless.

    Attributes:
        folders: the outermost of them, sorted.
        good: of all folders, the outermost ones that are called good, outside of other kinds and of tests.
    """

    def __init__(self, root: Path, images: Sequence[Path]) -> None:
        self._root = root
        places = sorted({image.parent for image in images})
        # where all images lie in one folder, its name tells nothing apart
        self._harmless_names = ("harmless", "unknown") if len(places) == 1 else ("harmless",)
        self._outermost = {place: self._first_other(place) for place in places}
        self.folders: list[Path] = sorted({other for other in self._outermost.values() if other is not None})
        self.good: list[Path] = sorted({good for place in places if (good := self._good_above(place)) is not None})

    def has(self, image: Path) -> bool:
        """Whether an image lies in one of the folders."""
        return self._outermost.get(image.parent) is not None

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The folders as such that are passed over."""
        return tuple(
            LeftOut(folder, UNKNOWN if meaning_of(folder.name) == "unknown" else NOT_GOOD, "folder")
            for folder in self.folders
        )

    def not_told_apart(self) -> UserError:
        """What is wrong, and what to do."""
        names = [self._inside(folder) for folder in self.folders]
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        expected = "expected train/good (MVTec AD), a manifest.csv, or images directly inside"
        problem = f"{self._root.resolve().name}/ has folders {shown}; {expected}"
        remedy = f"name the folders that hold good images only, one or several, in place of {self._root}"
        if safe := self.safe:
            remedy = f"{self._test_options()}{command('flawmap', 'train', *safe)}"
        return UserError(problem, str(self._root), remedy)

    @property
    def safe(self) -> list[Path]:
        """Folders whose names are safe to train on: good ones, or days beside defects. Beside masks, none is."""
        if self.good or {meaning_of(folder.name) for folder in self.folders} <= {"masks"}:
            return self.good
        return sorted({self._harmless(place) for place, other in self._outermost.items() if other is None})

    def _test_options(self) -> str:
        """How the other folders can be a test, where it is plain which is which."""
        masks = [folder for folder in self.folders if meaning_of(folder.name) == "masks"]
        others = [folder for folder in self.folders if folder not in self.good and folder not in masks]
        if len(self.good) != 1 or len(others) != 1 or len(masks) > 1:
            return ""
        named = {"normal": self.good, "anomalous": others, "masks": masks}
        values = {f"data.{name}": folder for name, folders in named.items() for folder in folders}
        options = [("--set", f"{name}={self._inside(folder)}") for name, folder in values.items()]
        words = command(*(word for option in options for word in option))
        return f"{words} takes the others as a test, or without a test: "

    def _inside(self, folder: Path) -> str:
        return folder.relative_to(self._root).as_posix()

    def _first_other(self, place: Path) -> Path | None:
        folder = self._root
        for name in place.relative_to(self._root).parts:
            folder /= name
            if meaning_of(name) not in self._harmless_names:
                return folder
        return None

    def _good_above(self, place: Path) -> Path | None:
        folder = self._root
        for name in place.relative_to(self._root).parts:
            folder /= name
            if (meaning := meaning_of(name)) == "good":
                return folder
            if meaning not in self._harmless_names and name.casefold() != "train":
                return None
        return None

    def _harmless(self, place: Path) -> Path:
        """The sub-folder of the root that a harmless place is in, or the place itself if others are there, too."""
        if place == self._root:
            return place
        top = self._root / place.relative_to(self._root).parts[0]
        return place if any(folder.is_relative_to(top) for folder in self.folders) else top
