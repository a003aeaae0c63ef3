"""versions/ of a run: every change of its model after the training, with what it replaced.

A change is written completely before it takes effect. Its folder, such as ``0001-2026-11-29-calibrate``, has

    version.json    what was changed, when, by which command, and the hashes of the files before and after
    images.csv      the images that it rests on, each with its hash
    former/, new/   the changed files as they were and as they are now, under their names in the model folder

The model is a folder, or an exported file; the threshold of a file lies beside it, and its versions in NAME.versions/.

A version that was interrupted between the two is recognised by the hashes: its files never came into force. Later kinds
of change need no other layout.
"""

import datetime
import hashlib
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import flawmap
from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_bytes
from flawmap.runs.json_files import read_json, refuse_unreadable_format, write_csv, write_json
from flawmap.runs.run_folder import MODEL, RECIPE, VERSIONS, iso_time
from flawmap.runs.threshold_names import whose

VERSION = "version.json"
IMAGES, FORMER, NEW = "images.csv", "former", "new"
CALIBRATE, UNDO = "calibrate", "undo"  # kinds of change
FORMAT = OLDEST_FORMAT = 1
_UNFINISHED = ".unfinished-"  # begins the name of a version's folder while it is written
_FOLDER = re.compile(r"(\d{4,})-.+")


@dataclass(frozen=True)
class ChangedFile:
    """A file of the model folder: its path in there, with forward slashes, and its hash before and after.

    A hash is None where there was, or is, no file.
    """

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Change:
    """What was done, and why.

    Attributes:
        kind: ``calibrate`` or ``undo``.
        command: as it was typed.
        camera: whose thresholds were changed; None stands for the default.
        threshold: of the image score since then; None without one.
        former_threshold: the same before.
        false_alarm_rate: that the threshold is for; None without a threshold.
        locations: of the images that it rests on.
        n_images: their number.
        drift: these images against those of the former calibration, in words.
        undoes: the number of the version that was taken back.
    """

    kind: str
    command: str
    camera: str | None
    threshold: float | None
    former_threshold: float | None
    false_alarm_rate: float | None
    locations: tuple[str, ...] = ()
    n_images: int = 0
    drift: str | None = None
    undoes: int | None = None


@dataclass(frozen=True)
class Version:
    """version.json.

    Attributes:
        format: of this file.
        number: from 1.
        at: when, as ISO 8601 in UTC.
        flawmap: the version that made the change.
        change: what was done.
        files: what it changed in the model folder.
    """

    format: int
    number: int
    at: str
    flawmap: str
    change: Change
    files: tuple[ChangedFile, ...]


@dataclass(frozen=True)
class _Versioned:
    format: int


@dataclass(frozen=True)
class History:
    """All versions of a model, oldest first.

    Attributes:
        versions: those that can be read.
        without_effect: numbers of those whose files never came into force: the command was interrupted.
        damaged: names of folders whose version.json cannot be read.
    """

    versions: tuple[Version, ...] = ()
    without_effect: frozenset[int] = frozenset()
    damaged: tuple[str, ...] = ()

    @property
    def calibrations(self) -> tuple[Version, ...]:
        """The calibrations of all cameras that have not been taken back."""
        cameras = {version.change.camera for version in self.versions}
        found = [version for camera in cameras for version in self.in_force(camera)]
        return tuple(sorted(found, key=lambda version: version.number))

    def in_force(self, camera: str | None) -> tuple[Version, ...]:
        """The calibrations of a camera that have not been taken back; ``--undo`` takes back the last of them."""
        kept: list[Version] = []
        for version in self.versions:
            change = version.change
            if version.number in self.without_effect or change.camera != camera:
                continue
            if change.kind == CALIBRATE:
                kept.append(version)
            elif change.kind == UNDO:
                kept = [earlier for earlier in kept if earlier.number != change.undoes]
        return tuple(kept)


def versions_folder(model: Path) -> Path:
    """Where the versions of a model are: in its run, or in itself where the folder was copied alone; beside a file."""
    model = model.resolve()
    if model.is_file():
        return model.with_name(f"{model.stem}.versions")
    is_in_run = model.name == MODEL and (model.parent / RECIPE).is_file()
    return (model.parent if is_in_run else model) / VERSIONS


def read_history(model: Path) -> History:
    """The versions of a model; nothing where nothing was changed.

    Raises:
        UserError: a version is of a format that this flawmap cannot read.
    """
    versions, damaged = [], []
    for number, folder in _folders(model):
        path = folder / VERSION
        try:
            found = read_json(path, _Versioned, "").format
        except UserError:
            damaged.append(folder.name)
            continue
        refuse_unreadable_format(found, OLDEST_FORMAT, FORMAT, str(path), "flawmap calibrate RUN GOOD_IMAGES")
        try:
            versions.append((number, read_json(path, Version, "")))
        except UserError:
            damaged.append(folder.name)
    ordered = tuple(version for _, version in sorted(versions, key=lambda found: found[0]))
    return History(ordered, _without_effect(model, ordered), tuple(sorted(damaged)))


def write_version(
    model: Path, change: Change, files: Mapping[str, bytes | None], images: Sequence[tuple[str, str]]
) -> Version:
    """Record a change of the model that is about to be made. The caller holds the folder exclusively.

    Args:
        model: the model folder, or the exported file.
        change: what will be done.
        files: the content that each file of the model folder, or beside the exported file, will have; None where it
            will be removed.
        images: name and SHA-256 of each image that the change rests on.

    Returns:
        the version, which is complete on disk.
    """
    parent = versions_folder(model)
    parent.mkdir(exist_ok=True)
    for leftover in parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a command that was killed
    number = 1 + max((number for number, _ in _folders(model)), default=0)
    former = {path: _content(_home(model) / path) for path in files}
    changed = tuple(ChangedFile(path, _sha256(former[path]), _sha256(content)) for path, content in files.items())
    version = Version(FORMAT, number, iso_time(), flawmap.__version__, change, changed)
    unfinished = parent / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        for side, contents in ((FORMER, former), (NEW, files)):
            for path, content in contents.items():
                if content is not None:
                    (unfinished / side / path).parent.mkdir(parents=True, exist_ok=True)
                    atomic_write_bytes(unfinished / side / path, content)
        if images:
            write_csv(unfinished / IMAGES, ("path", "sha256"), images)
        write_json(unfinished / VERSION, version)
        unfinished.rename(folder_of(model, version))
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return version


def folder_of(model: Path, version: Version) -> Path:
    """The folder of a version."""
    return versions_folder(model) / f"{version.number:04d}-{version.at[:10]}-{version.change.kind}"


def former_content(model: Path, version: Version, path: str) -> bytes | None:
    """A changed file as it was before a version; None where there was none.

    Raises:
        UserError: the copy is gone, or is not what it was.
    """
    file, known = folder_of(model, version) / FORMER / path, {changed.path: changed.before for changed in version.files}
    if known[path] is None:
        return None
    content = _content(file)
    if _sha256(content) != known[path]:
        raise UserError(
            f"version {version.number} cannot be taken back: its copy of the former {path} is damaged or gone",
            str(file),
            "calibrate with the images of an earlier version instead; its folder lists them",
        )
    return content


def number_in_force(model: Path, file: str) -> int | None:
    """The version that set the threshold in a file of the model; None where none did, or they cannot be read."""
    with suppress(UserError, OSError):
        history, now = read_history(model), _sha256(_content(_home(model) / file))
        for version in reversed(history.versions):
            changed = {file.path: file.after for file in version.files}
            if version.number not in history.without_effect and file in changed:
                return version.number if changed[file] == now else None
    return None


def describe(history: History) -> Iterator[str]:
    """One line per version, for people."""
    for version in history.versions:
        change = version.change
        when = datetime.datetime.fromisoformat(version.at).astimezone().strftime("%Y-%m-%d %H:%M")
        former, now = ("none" if t is None else f"{t:.4g}" for t in (change.former_threshold, change.threshold))
        camera = f"  {whose(change.camera)}" if change.camera else ""
        reason = f"takes back version {change.undoes}" if change.kind == UNDO else f"{change.n_images} images"
        note = "; interrupted, never in force" if version.number in history.without_effect else ""
        yield f"{version.number:4d}  {when}  {change.kind}{camera}: {former} -> {now} ({reason}{note})"
    for name in history.damaged:
        yield f"   ?  {name}: its {VERSION} cannot be read"


def _folders(model: Path) -> Iterator[tuple[int, Path]]:
    parent = versions_folder(model)
    for folder in parent.iterdir() if parent.is_dir() else ():
        if (name := _FOLDER.fullmatch(folder.name)) and folder.is_dir():
            yield int(name.group(1)), folder


def _without_effect(model: Path, versions: Sequence[Version]) -> frozenset[int]:
    """From the newest to the oldest: a version whose files are still as they were before it has had no effect."""
    now: dict[str, str | None] = {}
    idle = set()
    for version in reversed(versions):
        for file in version.files:
            now.setdefault(file.path, _sha256(_content(_home(model) / file.path)))
        if all(now[file.path] == file.before != file.after for file in version.files):
            idle.add(version.number)
        else:
            now |= {file.path: file.before for file in version.files}
    return frozenset(idle)


def _home(model: Path) -> Path:
    """The folder with the files that change."""
    return model.parent if model.is_file() else model


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _sha256(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()
