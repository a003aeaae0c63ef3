"""Which image an annotation file means: names may come from another computer, another folder or another file type."""

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from flawmap.data.images.files import IMAGE_SUFFIXES
from flawmap.errors import UserError


class ImageNames:
    """Images that can be found by what annotation files call them.

    Args:
        images: their paths.
        are_complete: an annotation file that names another image is damaged, or in the wrong place.
    """

    def __init__(self, images: Iterable[Path], are_complete: bool = True) -> None:
        self.images: tuple[Path, ...] = tuple(images)
        self.are_complete: bool = are_complete
        self._by_name: defaultdict[str, list[Path]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[Path]] = defaultdict(list)
        for image in self.images:
            self._by_name[_normal(image.name)].append(image)
            self._by_stem[_normal(image.stem)].append(image)

    def find_any(self, names: Iterable[str], file: Path, remedy: str) -> Path | None:
        """The image that has the first of these names for which there is one; None if there is none.

        Raises:
            UserError: there is none although the images are complete; or as :meth:`find`.
        """
        tried = list(dict.fromkeys(name for name in names if name))
        for name in tried:
            if (path := self.find(name, file)) is not None:
                return path
        if self.are_complete:
            raise UserError(f"there is no image {tried[0]}", str(file), remedy)
        return None

    def find(self, name: str, file: Path) -> Path | None:
        """The image that ``file`` calls ``name``; None if there is none.

        Of images with the same name, that in the folder that the name says counts, then that with the most folders of
        its path in common, then the one nearest to the annotation file. If no image has the name's ending, one with
        another ending counts.

        Args:
            name: a path, absolute or relative, with slashes of any system; its ending may be missing.
            file: the annotation file.

        Raises:
            UserError: several images fit equally well.
        """
        wanted = PurePosixPath(posixpath.normpath(_normal(name.strip().replace("\\", "/"))))
        candidates = self._by_name.get(wanted.name) or self._by_stem.get(wanted.name, [])
        if not candidates and wanted.suffix in IMAGE_SUFFIXES:
            candidates = self._by_stem.get(wanted.stem, [])
        if len(candidates) <= 1:
            return candidates[0] if candidates else None
        here = PurePosixPath(posixpath.normpath(_normal(file.parent.as_posix())))
        exact = posixpath.normpath(str(here / wanted))
        ranked = sorted(
            (
                _normal(image.as_posix()) == exact,
                _common(reversed(_folders(image)), reversed(wanted.parts[:-1])),
                _common(reversed(_folders(image)), reversed(here.parts)),  # labels/train/a.txt, images/train/a.png
                _common(_folders(image), here.parts),
                image,
            )
            for image in candidates
        )
        if ranked[-1][:-1] == ranked[-2][:-1]:
            both = f"{ranked[-2][-1]} and {ranked[-1][-1]}"
            raise UserError(f"{name} may be {both}", str(file), "rename one of the images, and in this file, too")
        return ranked[-1][-1]


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _folders(image: Path) -> tuple[str, ...]:
    return PurePosixPath(_normal(image.parent.as_posix())).parts


def _common(first: Iterable[str], second: Iterable[str]) -> int:
    """How many parts two paths have in common from their beginning."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count
