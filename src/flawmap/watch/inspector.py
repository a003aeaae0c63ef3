"""From an image to its row in the journal, its messages and its new place."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import UnreadableImageError, decode_image, read_file
from flawmap.deploy.drift_watch import DriftWatch
from flawmap.deploy.opened_model import OpenedModel
from flawmap.detect.detection import Detection
from flawmap.errors import UserError
from flawmap.watch.complete_files import FileState
from flawmap.watch.journal import Journal, Unmoved
from flawmap.watch.message import Image, Message, Status, message_about
from flawmap.watch.moving import finish_move, save_frame


class NotYetError(Exception):
    """A file cannot be dealt with now: it was changed meanwhile, or another program holds it."""


class NotMovedError(Exception):
    """A file was judged and cannot be moved now."""


@dataclass(frozen=True)
class Places:
    """Where judged files go; None: they stay.

    Attributes:
        ok: for images that are not anomalous.
        defect: for anomalous images.
        unread: for files that were not judged.
    """

    ok: Path | None = None
    defect: Path | None = None
    unread: Path | None = None

    def folder_for(self, message: Message) -> Path | None:
        """Of the verdict; None without a threshold."""
        if message.status != "judged":
            return self.unread
        return None if message.is_anomalous is None else self.defect if message.is_anomalous else self.ok

    @property
    def folders(self) -> list[Path]:
        """All that are given."""
        return [folder for folder in (self.ok, self.defect, self.unread) if folder is not None]


@dataclass
class Counts:
    """Since the start."""

    judged: int = 0
    anomalous: int = 0
    not_judged: int = 0
    left_out: int = 0


@dataclass
class Inspector:
    """Judges one image at a time.

    Attributes:
        model: with the thresholds in use.
        journal: where each image gets its row.
        places: where files go.
        tell: is given each message that was written.
        say: prints a line for people.
        root: sub-folders below it are kept where files are moved; None: all go to one folder.
        source: the path of the model, for the commands in a drift warning.
        counts: of what was done.
        drift: whether images have moved away from the good ones of the calibration; a restart goes on with it.
    """

    model: OpenedModel
    journal: Journal
    places: Places
    tell: Callable[[Message], None]
    say: Callable[[str], None]
    root: Path | None = None
    source: Path | None = None
    counts: Counts = field(default_factory=Counts)
    drift: DriftWatch = field(init=False)

    def __post_init__(self) -> None:
        """Raises: UserError: the model has no region of interest for the camera in use."""
        facts = self.model.facts
        facts.rois_of(None, 1)
        self.drift = DriftWatch(facts.calibration, facts.camera)
        self.drift.restore(self.journal.drift(facts.camera))

    def judge_file(self, state: FileState) -> None:
        """Judge a complete file, unless it has its row already, and move it.

        Raises:
            NotYetError: it cannot be read now.
            NotMovedError: it cannot be moved; its verdict is written, and :meth:`finish_moves` tries again.
        """
        known = _image_of(state)
        if self.journal.is_known(known):
            self._finish_moves_of(known)
        elif state.left_out is not None:
            self._leave_out(known, state)
        else:
            self._judge_new_file(known, state)

    def _judge_new_file(self, known: Image, state: FileState) -> None:
        data, outcome = _content(state)
        image = known if data is None else replace(known, sha256=hashlib.sha256(data).hexdigest())
        if self.journal.came_back(image):
            self._finish_moves_of(image)
            return
        if not self.journal.begin(image):
            outcome = UserError("flawmap ended each time that it judged this file", str(state.path), "look at the file")
        if outcome is None:
            outcome = self._outcome_of(data or b"", str(state.path))
        self._write(image, outcome)
        self._finish_moves_of(image)

    def judge_frame(self, image: Image, pixels: NDArray[np.uint8]) -> None:
        """Judge a frame, uint8 (h, w, 3) in RGB."""
        outcome = self._score(pixels)
        message = self._message(image, outcome)
        folder = self.places.folder_for(message)
        saved_to = None
        if folder is not None:
            try:
                saved_to = save_frame(folder, image, pixels)
            except OSError as error:  # the verdict counts more than the picture
                self.say(f"not saved  a frame to {folder}: {error.strerror}")
        self._add(image, message, saved_to=saved_to)

    def give_up(self, state: FileState, problem: str) -> None:
        """Write that a file could not be read for a long time."""
        image = _image_of(state)
        self._write(image, UnreadableImageError(problem, str(state.path), "check its permissions, then `touch` it"))
        self._finish_moves_of(image)

    def _outcome_of(self, data: bytes, place: str) -> Detection | UserError:
        try:
            pixels = decode_image(data, place=place)
        except UnreadableImageError as error:
            return error
        return self._score(pixels)

    def _score(self, pixels: NDArray[np.uint8]) -> Detection | UserError:
        try:
            (detection,) = self.model.predict_many([pixels])
        except UserError as error:
            return error
        return detection

    def _write(self, image: Image, outcome: Detection | UserError) -> None:
        message = self._message(image, outcome)
        folder, place = self.places.folder_for(message), Path(image.name).parent
        if folder and self.root and place.is_relative_to(self.root):
            folder = folder / place.relative_to(self.root)
        self._add(image, message, folder)

    def _message(self, image: Image, outcome: Detection | UserError) -> Message:
        """The message, after the drift watch has seen the image."""
        if isinstance(outcome, Detection):
            self._watch_drift(image, outcome)
        return message_about(image, outcome, _status_of(outcome), self.model.facts, self.drift.warnings)

    def _watch_drift(self, image: Image, detection: Detection) -> None:
        before, now = self.drift.warnings, datetime.now(UTC).isoformat(timespec="seconds")
        self.drift.see(detection.scores, detection.score, image.name, image.sha256, now)
        if news := self.drift.news(before, self.source):
            self.say(f"drift      {news}")

    def _add(self, image: Image, message: Message, folder: Path | None = None, saved_to: Path | None = None) -> None:
        drift = (self.drift.camera, self.drift.stored()) if message.status == "judged" else None
        self.journal.add(image, message, folder, saved_to, drift)
        if message.status == "judged":
            self.counts.judged += 1
            self.counts.anomalous += bool(message.is_anomalous)
        else:
            self.counts.not_judged += 1
        self.tell(message)

    def _leave_out(self, image: Image, state: FileState) -> None:
        self.journal.add_left_out(image, state.left_out or "", datetime.now(UTC).isoformat(timespec="milliseconds"))
        self.counts.left_out += 1
        path = Path(image.name)
        name = path.relative_to(self.root).as_posix() if self.root and path.is_relative_to(self.root) else image.name
        self.say(f"left out   {name}: {state.left_out}")

    def _finish_moves_of(self, image: Image) -> None:
        for unmoved in self.journal.unmoved(image):
            self._finish_move(unmoved)

    def finish_moves(self) -> None:
        """Move what was judged and not moved, as after a crash.

        Raises:
            NotMovedError: a folder cannot be written.
        """
        for unmoved in self.journal.unmoved():
            if (target := self._finish_move(unmoved)) is not None:
                self.say(f"moved      {unmoved.image.name} -> {target}, which was judged before")

    def _finish_move(self, unmoved: Unmoved) -> Path | None:
        try:
            return finish_move(self.journal, unmoved)
        except OSError as error:
            raise NotMovedError(f"{error.filename2 or error.filename or unmoved.folder}: {error.strerror}") from error


def _status_of(outcome: Detection | UserError) -> Status:
    if isinstance(outcome, UnreadableImageError):
        return "unreadable"
    return "judged" if isinstance(outcome, Detection) else "not_scored"


def _image_of(state: FileState) -> Image:
    """Without its content; a byte of the name that is not UTF-8 is shown as ``\\xff``."""
    name = os.fsencode(os.path.abspath(state.path)).decode("utf-8", "backslashreplace")
    return Image("file", name, state.size_bytes, state.time_ns, "")


def _content(state: FileState) -> tuple[bytes | None, UnreadableImageError | None]:
    """The bytes of a file in exactly this state; or why it is too large to be an image.

    Raises:
        NotYetError: it cannot be read, or was changed.
    """
    try:
        before = state.path.stat()
        data = read_file(state.path)
        after = state.path.stat()
    except UnreadableImageError as error:
        if isinstance(error.__cause__, OSError):
            raise NotYetError(error.problem) from error
        return None, error
    except OSError as error:
        raise NotYetError(f"the file cannot be read: {error.strerror or error}") from error
    expected = state.size_bytes, state.time_ns
    if any((status.st_size, status.st_mtime_ns) != expected for status in (before, after)):
        raise NotYetError("the file is being written")
    return data, None
