"""Frames of a camera or a stream, by rate or by trigger. The newest counts: what nobody could judge in time is dropped.

A thread reads all frames, because a camera's buffer would otherwise hand out old ones.
"""

import hashlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import quote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from flawmap.advice import install
from flawmap.errors import UserError
from flawmap.plural import plural
from flawmap.watch.backoff import Backoff
from flawmap.watch.inspector import Inspector
from flawmap.watch.message import Image
from flawmap.watch.rate import Rate
from flawmap.watch.secret import secret

STREAM = re.compile(r"(rtsp|rtsps|http|https)://", re.IGNORECASE)
CAMERA = re.compile(r"camera:(\d+)")
USER_VARIABLE, PASSWORD_VARIABLE = "FLAWMAP_STREAM_USER", "FLAWMAP_STREAM_PASSWORD"
TIMEOUT_MS = 10_000  # for a stream to open, and for its next frame
MOST_TRIGGERED = 8  # frames and triggers that wait; a camera by rate has one
TAKE_S = 0.2  # for a frame to come, before the watch looks at other things


@runtime_checkable
class Capture(Protocol):
    """An open camera, as ``cv2.VideoCapture`` is one."""

    def grab(self) -> bool:
        """Read the next frame; False if there is none."""
        ...

    def retrieve(self) -> tuple[bool, np.ndarray]:
        """Decode it: uint8 (h, w, 3) in BGR."""
        ...

    def release(self) -> None:
        """Close the camera."""
        ...


@dataclass(frozen=True)
class Frame:
    """A frame to be judged.

    Attributes:
        pixels: uint8 (h, w, 3) in RGB.
        time_ns: when it was read, nanoseconds since 1970.
        seen_s: the same by the clock of the watch.
        trigger: the line that asked for it; None by rate.
    """

    pixels: NDArray[np.uint8]
    time_ns: int
    seen_s: float
    trigger: str | None


def is_frames(source: str) -> bool:
    """Whether a source is a camera or a stream, and not a folder."""
    return bool(STREAM.match(source) or source.startswith("camera:"))


@dataclass(frozen=True)
class FrameAddress:
    """A camera or a stream.

    Attributes:
        name: for people and in messages, without what may be secret: no password and no query.
        target: what OpenCV opens: the number of a camera, or an address with its password.
    """

    name: str
    target: int | str

    @classmethod
    def of(cls, source: str) -> "FrameAddress":
        """Of ``camera:0`` or ``rtsp://HOST/PATH``; user and password of a stream come from the environment.

        Raises:
            UserError: it is neither, or has a password in it.
        """
        if camera := CAMERA.fullmatch(source):
            return cls(source, int(camera[1]))
        try:
            parts = urlsplit(source)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UserError(f"this is no address of a stream: {error}", source, "rtsp://HOST/PATH") from error
        if not STREAM.match(source) or not host:
            raise UserError("this is neither a camera nor a stream", source, "camera:0 or rtsp://HOST/PATH")
        if parts.username or parts.password:
            problem = "a password does not belong on a command line"
            raise UserError(
                problem, parts.scheme, f"put it into {PASSWORD_VARIABLE}, and the name into {USER_VARIABLE}"
            )
        place = f"{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
        user, password = secret(USER_VARIABLE), secret(PASSWORD_VARIABLE)
        who = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        target = urlunsplit((parts.scheme, who + place, parts.path, parts.query, ""))
        return cls(urlunsplit((parts.scheme, place, parts.path, "", "")), target)


def refuse_without_opencv() -> None:
    """Raises: UserError: OpenCV is not installed."""
    try:
        import cv2  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("frames need the package opencv-python-headless", "", install("camera")) from error


def open_capture(address: FrameAddress) -> Capture | None:
    """Open a camera with OpenCV; None where it cannot be opened now."""
    import cv2

    if isinstance(address.target, int):
        capture = cv2.VideoCapture(address.target)
    else:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        capture = cv2.VideoCapture(address.target, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        capture.release()
        return None
    return capture


def lines_of_standard_input() -> Iterator[bytes]:
    """Unbuffered: a buffer has a lock, which a thread that waits for a line would hold when the process ends."""
    with open(0, "rb", buffering=0, closefd=False) as file:
        yield from file


class FrameSource:
    """Reads frames in a thread of its own, and keeps those that are due.

    Args:
        name: of the camera, for people.
        open_: opens it; None where that fails, which is tried again after growing waits.
        every_s: between two frames; None: by trigger.
        backoff: after failures.
        say: prints a line for people.
        clock: seconds, only forwards.

    Attributes:
        n_dropped: frames and triggers that were due and that nobody could take in time.
    """

    def __init__(
        self,
        name: str,
        open_: Callable[[], Capture | None],
        every_s: float | None,
        backoff: Backoff,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._open, self._every_s, self._backoff = name, open_, every_s, backoff
        self._say, self._clock = say, clock
        self._changed, self._stopping = threading.Condition(), threading.Event()
        self._frames: deque[Frame] = deque()
        self._triggers: deque[str] = deque()
        self._most = 1 if every_s is not None else MOST_TRIGGERED
        self._next_s, self._is_last_trigger_there = float("-inf"), False
        self.n_dropped = 0
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self, triggers: Iterable[bytes] | None = None) -> None:
        """Begin to read.

        Args:
            triggers: lines, each of which asks for a frame; read in another thread until they end.
        """
        self._thread.start()
        if triggers is not None:
            threading.Thread(target=self._read_triggers, args=(triggers,), name="triggers", daemon=True).start()

    def stop(self) -> None:
        """End the thread; one that hangs in the camera is left behind."""
        self._stopping.set()
        self._thread.join(2.0)

    @property
    def is_finished(self) -> bool:
        """Whether the last trigger has got its frame and that was taken."""
        with self._changed:
            return self._is_last_trigger_there and not self._triggers and not self._frames

    @property
    def n_waiting(self) -> int:
        """Frames that wait, and triggers that wait for theirs."""
        return len(self._frames) + len(self._triggers)

    def take(self, timeout_s: float) -> Frame | None:
        """The next frame; None if none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames, timeout_s)
            return self._frames.popleft() if self._frames else None

    def trigger(self, line: str) -> None:
        """Ask for the next frame that the camera gives."""
        with self._changed:
            if len(self._triggers) >= MOST_TRIGGERED:
                self._drop(f"trigger {self._triggers.popleft()!r}: the camera gives no frames")
            self._triggers.append(line)

    def _read_triggers(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.trigger(line.decode(errors="replace").strip())
        with self._changed:
            self._is_last_trigger_there = True

    def _drop(self, what: str) -> None:
        self.n_dropped += 1
        if self._every_s is None:  # a part that nobody has looked at is named
            self._say(f"dropped    {what}")

    def _run(self) -> None:
        while not self._stopping.is_set():
            n_read, capture = 0, None
            try:
                capture = self._open()
                if capture is None:
                    if not self._backoff.n_failures:
                        self._say(f"waiting    {self._name} cannot be opened; trying again until it works")
                    self._stopping.wait(self._backoff.next_s())
                    continue
                n_read = self._read(capture)
            except Exception as error:  # of the camera's driver; this thread must not end
                self._say(f"waiting    {self._name}: {error}")
            finally:
                if capture is not None:
                    capture.release()
            if not self._stopping.is_set():
                if not self._backoff.n_failures:
                    self._say(f"waiting    {self._name} gives no more frames; opening it again")
                self._stopping.wait(self._backoff.next_s() if n_read == 0 else 0.1)

    def _read(self, capture: Capture) -> int:
        """Read until it fails; how many frames that were."""
        n_read = 0
        while not self._stopping.is_set() and capture.grab():
            n_read += 1
            if n_read == 1:
                if self._backoff.n_failures:
                    self._say(f"watching   {self._name} gives frames again")
                self._backoff.succeed()
            self.note_frame(capture)
        return n_read

    def note_frame(self, capture: Capture) -> None:
        """Keep the frame that was just read for each trigger that waits, or if the next one by rate is due."""
        now_s = self._clock()
        with self._changed:
            wanted: list[str | None] = list(self._triggers) if self._every_s is None else []
            self._triggers.clear()
        if self._every_s is not None and now_s >= self._next_s:
            wanted = [None]
            late = now_s - self._next_s >= self._every_s  # also the first time
            self._next_s = now_s + self._every_s if late else self._next_s + self._every_s
        if not wanted:
            return
        is_read = False
        try:
            is_read, pixels = capture.retrieve()
        finally:
            if not is_read:  # the triggers wait for the next frame, also if the driver has raised
                with self._changed:
                    self._triggers.extendleft(line for line in reversed(wanted) if line is not None)
        if not is_read:
            return
        rgb = np.ascontiguousarray(pixels[..., ::-1])
        with self._changed:
            for trigger in wanted:
                if len(self._frames) >= self._most:
                    self._drop(f"the frame of trigger {self._frames.popleft().trigger!r}: judging is too slow")
                self._frames.append(Frame(rgb, time.time_ns() + len(self._frames), now_s, trigger))
            self._changed.notify_all()


@dataclass
class FrameWork:
    """The frames of a camera, each judged as it comes.

    Attributes:
        name: of the camera.
        source: started.
        inspector: judges.
        rate: is told of each frame.
        once: end after one frame.
        clock: seconds, only forwards.
    """

    name: str
    source: FrameSource
    inspector: Inspector
    rate: Rate
    once: bool = False
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._n_done = 0

    @property
    def is_finished(self) -> bool:
        """After one frame with ``once``, and after the last trigger."""
        return (self.once and self._n_done > 0) or self.source.is_finished

    def step(self, now_s: float) -> float:
        """Judge the next frame; there is nothing to wait for, because taking waits."""
        frame = self.source.take(TAKE_S)
        if frame is not None:
            digest = hashlib.sha256(frame.pixels.tobytes()).hexdigest()
            image = Image("frame", self.name, frame.pixels.nbytes, frame.time_ns, digest, frame.trigger)
            self.inspector.judge_frame(image, frame.pixels)
            self.rate.add(frame.seen_s, self.clock())
            self._n_done += 1
        return 0.0

    def words(self) -> str:
        """Frames that wait, and how many were dropped."""
        waiting = f"{plural(self.source.n_waiting, 'frame')} waiting" if self.source.n_waiting else ""
        dropped = f"{plural(self.source.n_dropped, 'frame')} dropped" if self.source.n_dropped else ""
        return ", ".join(words for words in (waiting, dropped) if words)
