"""The one walk over folders of images: every file is found as an image, or passed over with a reason.

A file is an image by its extension; a file with another extension, or without one, is looked into.
"""

import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from flawmap.data.annotations.recognise import recognised
from flawmap.data.images.dicom_class import what_without_image
from flawmap.data.images.files import IMAGE_SUFFIXES
from flawmap.data.images.formats import HEAD_BYTES, PICTURE_REMEDIES, READ_FORMATS, format_of, not_read
from flawmap.data.sample import FileRemark, LeftOut
from flawmap.errors import UserError

FoundT_co = TypeVar("FoundT_co", covariant=True)

SYSTEM_FOLDERS = {  # in lower case; what makes them, and what they are in a count
    **dict.fromkeys(("@eadir", ".@__thumb", "@__thumb", ".thumbnails"), ("thumbnails of a NAS", "thumbnail folder")),
    **dict.fromkeys(
        ("#recycle", "@recycle", ".recycle", "$recycle.bin", "recycler", ".trashes", ".trash"),
        ("files that were deleted", "recycle bin"),
    ),
    **dict.fromkeys(("#snapshot", ".snapshot", ".snapshots"), ("copies by a NAS", "system folder")),
    **dict.fromkeys(("__macosx", ".appledouble"), ("notes of macOS about files", "system folder")),
    **dict.fromkeys(("system volume information", "lost+found"), ("of the file system", "system folder")),
    ".ipynb_checkpoints": ("copies by Jupyter", "system folder"),
}
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
PARTIAL_SUFFIXES = (".part", ".partial", ".filepart", ".crdownload", ".download", ".opdownload", ".aria2", ".tmp")
BACKUP_SUFFIXES = (".bak", ".old", ".orig", ".swp")
OUR_FILES = {  # of a folder that flawmap has written
    "a run of flawmap train": {"data_manifest.csv", "recipe.yaml"},
    "an evaluation of flawmap evaluate": {"per_image.csv", "metrics.json"},
}
DICOM, DICOM_SUFFIX = "DICOM", ".dcm"
MASK = "mask"  # kind of what is left out because it lies beside its image
DETECTIONS, DETECTIONS_START = "results.jsonl", b'{"image": '
_MASK = r"masks?|gt|ground[ _-]?truth|labels?|seg|segm|segmentation|anno|annot|annotations?|overlay|heat[ _-]?map"
_COMPANION = rf"(?:(?P<mask>{_MASK})|(?P<thumbnail>thumb|thumbnail))"
COMPANION_END = re.compile(rf"[ ._-]*{_COMPANION}(?:[ ._-]?\d+)?$")  # X_mask, X-gt, X.seg, X_mask_2
COMPANION_START = re.compile(rf"^{_COMPANION}[ ._-]*")  # mask_X


@dataclass(frozen=True)
class Listing(Generic[FoundT_co]):
    """What a walk or a list found, in order, what it passed over, and what is odd about the list."""

    images: tuple[FoundT_co, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[FileRemark, ...] = ()


def walk(
    folder: Path, recursive: bool = True, passes_over: Callable[[Path], LeftOut | bool] = lambda place: False
) -> Listing[Path]:
    """All images in a folder, sorted, and everything that is not one.

    Links are followed; each folder is read once, so a link in a circle ends. A broken link with an image's extension is
    an image, to be reported as unreadable. Other hidden files are not mentioned.

    Args:
        folder: to be read.
        recursive: also read what is below it; its sub-folders are not mentioned otherwise.
        passes_over: asked for each sub-folder: False to read it, True to keep silent about it, or why it is left out.

    Raises:
        UserError: the folder itself cannot be read.
    """
    images: list[Path] = []
    left_out: list[LeftOut] = []
    seen: set[tuple[int, int]] = set()
    places, links = [folder], []  # links to folders come last, so that a folder is read where it lies
    while places or links:
        place = places.pop() if places else links.pop()
        try:
            entries, status = entries_of(place), place.stat()
        except (OSError, UserError) as error:
            if place == folder:
                raise
            left_out.append(LeftOut(place, getattr(error, "problem", str(error)), "folder"))
            continue
        if status.st_ino and (status.st_dev, status.st_ino) in seen:
            left_out.append(LeftOut(place, "a link to a folder that is read already", "link"))
            continue
        seen.add((status.st_dev, status.st_ino))
        if ours := _written_by_us(place, {entry.name for entry in entries}):
            left_out.append(ours)
            continue
        for entry in entries:
            path = place / entry.name
            if not _is_folder(entry):
                if reason := _why_no_image(entry, path):
                    left_out.append(reason)
                elif not entry.name.startswith("."):
                    images.append(path)
            elif reason := _why_no_data(path):
                left_out.append(reason)
            elif recursive and not entry.name.startswith("."):
                verdict = passes_over(path)
                if isinstance(verdict, LeftOut):
                    left_out.append(verdict)
                elif not verdict:
                    (links if entry.is_symlink() else places).append(path)
    return Listing(tuple(sorted(images)), tuple(sorted(left_out, key=lambda item: item.path)))


def without_companions(listing: Listing[Path]) -> Listing[Path]:
    """The same without masks, overlays and thumbnails that lie beside their images: ``X_mask.png`` beside ``X.png``."""
    stems: defaultdict[Path, set[str]] = defaultdict(set)
    for path in listing.images:
        stems[path.parent].add(path.stem.casefold())
    kinds = {path: _companion_of(path.stem.casefold(), stems[path.parent]) for path in listing.images}
    companions = [
        LeftOut(path, f"by its name the {kind} of the image beside it", kind) for path, kind in kinds.items() if kind
    ]
    images = tuple(path for path, kind in kinds.items() if kind is None)
    return Listing(images, listing.left_out + tuple(companions))


def visible_folders(folder: Path) -> list[Path]:
    """Sub-folders that may hold data, sorted: neither hidden nor a system's own.

    Raises:
        UserError: the folder cannot be read.
    """
    paths = [folder / entry.name for entry in entries_of(folder) if _is_folder(entry)]
    return [path for path in paths if not path.name.startswith(".") and _why_no_data(path) is None]


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """Everything in a folder, sorted by name.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        remedy = "check its name and your permissions"
        raise UserError(f"the folder cannot be read: {error.strerror}", str(folder), remedy) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or a place that is not mounted
        return False


def _why_no_data(folder: Path) -> LeftOut | None:
    """Why a sub-folder is the system's own, or hides images; None for a folder that may be read, or has no images."""
    what = SYSTEM_FOLDERS.get(folder.name.lower())
    if what is None and folder.name.lower().startswith(".trash-"):
        what = SYSTEM_FOLDERS[".trash"]
    if what is not None:
        return LeftOut(folder, f"a folder of the system: {what[0]}", what[1])
    if folder.name.startswith(".") and _holds_image_names(folder):
        return LeftOut(folder, "a hidden folder", "hidden folder")
    return None


def _holds_image_names(folder: Path) -> bool:
    try:
        return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in os.listdir(folder))
    except OSError:
        return False


def _written_by_us(folder: Path, names: set[str]) -> LeftOut | None:
    if DETECTIONS in names:
        try:
            with (folder / DETECTIONS).open("rb") as file:
                if file.read(len(DETECTIONS_START)) in (b"", DETECTIONS_START):
                    return LeftOut(folder, "results of an earlier detection", "folder of results")
        except OSError:
            pass
    for what, files in OUR_FILES.items():
        if files <= names:
            return LeftOut(folder, f"written by flawmap: {what}", "folder of results")
    return None


def _why_no_image(entry: os.DirEntry[str], path: Path) -> LeftOut | None:
    """Why a file is not an image; None for an image, and for a hidden file that nobody can have meant."""
    if entry.name.startswith(".") or not_meant(path) is not None:
        return not_meant(path)
    extension = path.suffix.lower()
    try:
        mode = entry.stat().st_mode
    except OSError:
        is_broken_image = extension in IMAGE_SUFFIXES
        return None if is_broken_image else LeftOut(path, "a link to a file that does not exist", "broken link")
    if not stat.S_ISREG(mode):
        return LeftOut(path, "neither a file nor a folder", "special file")
    return None if extension in IMAGE_SUFFIXES and extension != DICOM_SUFFIX else _looked_into(path, extension)


def not_meant(path: Path) -> LeftOut | None:
    """Why a file is not an image by its name: hidden, a system's own, unfinished or a backup copy; None otherwise."""
    name = path.name.lower()
    extension = Path(name).suffix
    if name.startswith("."):
        if extension not in IMAGE_SUFFIXES:
            return None
        is_note = name.startswith("._")
        return LeftOut(path, "a note of macOS about a file" if is_note else "a hidden file", "hidden file")
    if name in SYSTEM_FILES:
        return LeftOut(path, "a file of the system", "system file")
    if extension in PARTIAL_SUFFIXES:
        return LeftOut(path, "an unfinished download, or a temporary file", "unfinished file")
    if extension in BACKUP_SUFFIXES or name.endswith("~") or name.startswith("~$"):
        return LeftOut(path, "a backup copy", "backup copy")
    return None


def _looked_into(path: Path, extension: str) -> LeftOut | None:
    """Why a file is not an image by its content."""
    kind = extension or "file without extension"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        unreadable = LeftOut(path, f"the file cannot be read: {error.strerror}", kind)
        return None if extension in IMAGE_SUFFIXES else unreadable
    name = format_of(head)
    if name == DICOM and (what := what_without_image(head)) is not None:
        return LeftOut(path, f"DICOM without an image: {what}", "DICOM of a kind that is not read")
    if name in READ_FORMATS or extension in IMAGE_SUFFIXES:
        return None
    if not head:
        return LeftOut(path, "the file is empty", kind)
    if name not in PICTURE_REMEDIES and (known := recognised(path)) is not None:
        return LeftOut(path, str(known), known.name)
    problem, remedy = not_read(name)
    return LeftOut(path, problem if name is None else f"{problem}; {remedy}", kind)


def _companion_of(stem: str, stems: set[str]) -> str | None:
    """What a stem is if it is another one's with a word such as ``_mask``; None if it stands for itself."""
    for match in (COMPANION_END.search(stem), COMPANION_START.match(stem)):
        if match and (stem[: match.start()] + (stem[match.end() :] if match.start() == 0 else "")) in stems - {stem}:
            return match.lastgroup
    return None
