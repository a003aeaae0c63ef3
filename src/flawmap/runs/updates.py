"""Updates of a run: models that learned from further images, each beside the ones before it.

An update is a run folder of its own in ``versions/`` of the run, such as ``versions/update-0001``, with its model, the
list of its images and the tokens that the next update goes on from. Beside them it has

    update.json         who made it, when and by which command, and what it changed
    update_images.csv   the new images: their hashes, what they count for, and their scores before and after

It is written completely, under another name, before ``current.txt`` of the run names it. That is one step: whatever
interrupts an update leaves the model before it in force.
"""

import getpass
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.json_files import read_json, write_csv, write_json
from flawmap.runs.run_folder import CURRENT, MODEL, UPDATE, VERSIONS, RunFolder

FORMAT = 1
RECORD, IMAGES = "update.json", "update_images.csv"
THE_TRAINING = "the training"  # the version that no update has made
THE_DEFAULT = "the default"  # threshold, beside those of cameras, whose names have no space
_UNFINISHED = ".unfinished-update-"


@dataclass(frozen=True)
class Standing:
    """How a model judges good images that its fits have not seen, and the new ones.

    Attributes:
        threshold: of the image score; None without one.
        n_good: good images that the threshold rests on.
        n_alarms: of these, how many are above it.
        n_new: new images with a score; those that the run does not keep whole have none after an update.
        n_new_alarms: of these, how many are above the threshold.
    """

    threshold: float | None
    n_good: int
    n_alarms: int
    n_new: int
    n_new_alarms: int


@dataclass(frozen=True)
class NewImage:
    """An image that an update learned from.

    Attributes:
        path: its key in the run.
        sha256: of its bytes.
        role: ``train``, or ``reviewed`` for one that sets neither scales nor threshold.
        score_before: by the model before.
        score_after: by a fit that has not seen it; None where there is none.
    """

    path: str
    sha256: str
    role: str
    score_before: float
    score_after: float | None


@dataclass(frozen=True)
class UpdateRecord:
    """update.json.

    Attributes:
        format: of this file.
        former: the version before; None for what the training made.
        at: when, as ISO 8601 in UTC.
        by: the user and the machine.
        flawmap: the version that made it.
        command: as it was typed.
        locations: where the new images were.
        reviews: the file that told good images from defects; None without.
        trains_head: whether the head was trained again.
        n_new: images that it learned from.
        n_images: of all that the model has learned from.
        kept_bytes: what it keeps of them for the next update.
        before: how the model before judges.
        after: how this one does.
        dropped: whose thresholds, set on images that no training had seen, the new model does not have.
    """

    format: int
    former: str | None
    at: str
    by: str
    flawmap: str
    command: str
    locations: tuple[str, ...]
    reviews: str | None
    trains_head: bool
    n_new: int
    n_images: int
    kept_bytes: int
    before: Standing
    after: Standing
    dropped: tuple[str, ...]


def this_user() -> str:
    """Who works here: user@machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may know no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def updates_of(run: RunFolder) -> tuple[str, ...]:
    """Names of all finished updates, oldest first, whether in force or not."""
    parent = run.path / VERSIONS
    names = [entry.name for entry in parent.iterdir() if re.fullmatch(UPDATE, entry.name)] if parent.is_dir() else []
    return tuple(sorted(names, key=lambda name: int(name.partition("-")[2])))


@contextmanager
def unfinished_update(run: RunFolder) -> Iterator[RunFolder]:
    """A run folder for an update that is being made; what is left of it at the end is removed.

    The caller holds the run exclusively.
    """
    parent = run.path / VERSIONS
    parent.mkdir(exist_ok=True)
    for leftover in parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a command that was killed
    folder = parent / f"{_UNFINISHED}{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield RunFolder(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_force(run: RunFolder, unfinished: RunFolder, record: UpdateRecord, images: Sequence[NewImage]) -> str:
    """Give a finished update its name, and make it the current version; returns the name.

    Only this version, the one before, and the training keep tokens: each version would take as much space as the run.
    """
    head = ("path", "sha256", "role", "score_before", "score_after")
    write_csv(unfinished.path / IMAGES, head, [astuple(image) for image in images])
    write_json(unfinished.path / RECORD, record)
    number = 1 + max((int(name.partition("-")[2]) for name in updates_of(run)), default=0)
    name = f"update-{number:04d}"
    unfinished.path.rename(run.path / VERSIONS / name)
    make_current(run, name)
    for other in updates_of(run):
        if other not in (name, record.former):
            shutil.rmtree(RunFolder(run.path / VERSIONS / other).checkpoint("").parent, ignore_errors=True)
    return name


def make_current(run: RunFolder, version: str | None) -> None:
    """Let a run's model be that of an update; None stands for what the training made."""
    if version is None:
        (run.path / CURRENT).unlink(missing_ok=True)
    else:
        atomic_write_text(run.path / CURRENT, f"{version}\n")


def updates_in_force(run: RunFolder) -> tuple[UpdateRecord, ...]:
    """The updates that the current model has learned from, oldest first.

    Raises:
        UserError: a record is damaged, or gone.
    """
    records: list[UpdateRecord] = []
    version = run.version
    while version is not None:
        records.append(read_update(run, version))
        version = records[-1].former
    return tuple(reversed(records))


def models_in_force(run: RunFolder) -> dict[str, Path]:
    """The model folders of the training and of the updates that the current model has learned from, oldest first.

    Raises:
        UserError: a record is damaged, or gone.
    """
    versions: list[str] = []
    version = run.version
    while version is not None:
        versions.append(version)
        version = read_update(run, version).former
    return {THE_TRAINING: run.path / MODEL} | {name: run.path / VERSIONS / name / MODEL for name in reversed(versions)}


def read_update(run: RunFolder, version: str) -> UpdateRecord:
    """The record of an update.

    Raises:
        UserError: it is damaged, or gone.
    """
    path = run.path / VERSIONS / version / RECORD
    if not path.is_file():
        raise UserError("the record of the current version is gone", str(path), f"copy {VERSIONS}/ of the run again")
    return read_json(path, UpdateRecord, f"copy {VERSIONS}/ of the run again")
