"""One watch from its start to its stop: judge what comes, deliver, say how it goes."""

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol, runtime_checkable

from flawmap.errors import UserError
from flawmap.plural import plural
from flawmap.watch.backoff import Backoff
from flawmap.watch.complete_files import CompleteFile, CompleteFiles, FileState
from flawmap.watch.delivery import Delivery
from flawmap.watch.folder import WatchedFolder
from flawmap.watch.inspector import Inspector, NotMovedError, NotYetError
from flawmap.watch.rate import Rate

LOOK_EVERY_S = 0.5  # at a folder; less often where a look takes long
LOOKS_SHARE = 5  # a look is followed by at least so many times its own duration without one
SAY_EVERY_S = 10.0
MOST_WAITING = 100_000  # messages; beyond them nothing is judged until some are delivered
FULL_S = 1.0  # between two looks at whether some are
HELD_S = 30.0  # a file that cannot be read for so long is given up
LAST_DELIVERIES_S = 10.0  # what is delivered when the watch stops
ONCE_DELIVERIES_S = 60.0  # the same with --once, which has nothing else to do


@runtime_checkable
class Work(Protocol):
    """Where images come from."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will come."""
        ...

    def step(self, now_s: float) -> float:
        """Judge one image at most; the seconds to wait before the next step."""
        ...

    def words(self) -> str:
        """What waits, or was dropped."""
        ...


@dataclass
class FolderWork:
    """The files of a folder, each when it is complete. The folder is the queue, so nothing is dropped.

    Attributes:
        folder: that is watched.
        inspector: judges.
        files: tells which files are complete.
        rate: is told of each image.
        backoff: while the folder cannot be read, or files cannot be moved.
        say: prints a line for people.
        once: end when the files of the first look are done.
        clock: seconds, only forwards.
    """

    folder: WatchedFolder
    inspector: Inspector
    files: CompleteFiles
    rate: Rate
    backoff: Backoff
    say: Callable[[str], None]
    once: bool = False
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._pending: deque[CompleteFile] = deque()
        self._held: dict[FileState, float] = {}
        self._first_look_s: float | None = None
        self._next_look_s = self._next_moves_s = float("-inf")
        self._has_moves = True

    @property
    def is_finished(self) -> bool:
        """With ``once``, whether all that was there at the first look is done."""
        if not self.once or self._first_look_s is None or self._pending:
            return False
        return self.files.n_settling(self._first_look_s) == 0

    def step(self, now_s: float) -> float:
        """Look where it is time, then judge one file."""
        if now_s >= self._next_look_s:
            self._look(now_s)
        if self._has_moves and now_s >= self._next_moves_s:
            self._finish_moves(now_s)
        if not self._pending:
            return max(0.01, self._next_look_s - now_s)
        file = self._pending.popleft()
        try:
            self.inspector.judge_file(file.state)
            self.rate.add(file.seen_s, self.clock())
        except NotYetError as error:
            self._hold(file.state, str(error), now_s)
        except NotMovedError as error:
            self._put_off_moves(error, now_s)
        return 0.0

    def _look(self, now_s: float) -> None:
        try:
            states = self.folder.files()
        except (UserError, OSError) as error:
            if self.once:
                raise
            if not self.backoff.n_failures:
                problem = error.problem if isinstance(error, UserError) else error.strerror or str(error)
                self.say(f"waiting    {self.folder.name} cannot be read: {problem}; trying again until it works")
            self._next_look_s = now_s + self.backoff.next_s()
            return
        if self.backoff.n_failures:
            self.say(f"watching   {self.folder.name} can be read again")
        self.backoff.succeed()
        there = set(states)
        self._pending = deque(file for file in self._pending if file.state in there)
        self._held = {state: since for state, since in self._held.items() if state in there}
        self._pending.extend(self.files.look(states, now_s))
        if self._first_look_s is None:
            self._first_look_s = now_s
        took_s = self.clock() - now_s
        self._next_look_s = now_s + max(LOOK_EVERY_S, LOOKS_SHARE * took_s)

    def _hold(self, state: FileState, problem: str, now_s: float) -> None:
        since_s = self._held.setdefault(state, now_s)
        if self.once or now_s - since_s >= HELD_S:
            self.inspector.give_up(state, problem)
        else:
            self.files.give_again(state)

    def _finish_moves(self, now_s: float) -> None:
        try:
            self._has_moves = False
            self.inspector.finish_moves()
        except NotMovedError as error:
            self._put_off_moves(error, now_s)

    def _put_off_moves(self, error: NotMovedError, now_s: float) -> None:
        if not self._has_moves:
            self.say(f"not moved  {error}; verdicts are kept, and files are moved when it works again")
        self._has_moves, self._next_moves_s = True, now_s + HELD_S

    def words(self) -> str:
        """Files that wait."""
        n = len(self._pending) + self.files.n_settling()
        return f"{plural(n, 'file')} waiting" if n else ""


class Session:
    """Runs until it is stopped or its work is finished.

    Args:
        inspector: judges.
        work: where images come from.
        deliveries: by the key of their destination; started.
        rate: that the work tells of each image.
        say: prints a line for people.
        clock: seconds, only forwards.
    """

    def __init__(
        self,
        inspector: Inspector,
        work: Work,
        deliveries: Sequence[tuple[str, Delivery]],
        rate: Rate,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inspector, self._work, self._rate, self._say, self._clock = inspector, work, rate, say, clock
        self._deliveries = dict(deliveries)
        self._said_s, self._said_n, self._counted_s, self._n_waiting = clock(), 0, float("-inf"), 0
        self._is_full = False

    def run(self, stop: Event, once: bool = False) -> int:
        """Work until ``stop`` is set or the work is finished.

        Args:
            stop: set by a signal.
            once: try for a while to deliver the rest at the end, also after failures.

        Returns:
            how many messages wait for the next start.

        Raises:
            UserError: the journal cannot be written.
        """
        for delivery in self._deliveries.values():
            delivery.start()
        try:
            while not stop.is_set() and not self._work.is_finished:
                now_s = self._clock()
                self._count_waiting(now_s)
                wait_s = FULL_S if self._is_full else self._work.step(now_s)
                self._say_how_it_goes(now_s)
                if wait_s:
                    stop.wait(wait_s)
            return self._end(ONCE_DELIVERIES_S if once and not stop.is_set() else LAST_DELIVERIES_S, once)
        except sqlite3.Error as error:
            raise UserError(f"the journal cannot be written: {error}", "--journal", "check the free space") from error

    def _end(self, grace_s: float, is_patient: bool) -> int:
        for delivery in self._deliveries.values():
            delivery.stop(grace_s, is_patient)
        for delivery in self._deliveries.values():
            delivery.join(grace_s + LAST_DELIVERIES_S)
        return self._count_waiting(float("inf"))

    def _count_waiting(self, now_s: float) -> int:
        """Messages for these destinations; counted once a second."""
        if now_s >= self._counted_s + 1.0:
            waiting = self._inspector.journal.waiting()
            self._n_waiting, self._counted_s = sum(waiting.get(key, 0) for key in self._deliveries), now_s
            if (is_full := self._n_waiting >= MOST_WAITING) != self._is_full:
                paused = f"{plural(self._n_waiting, 'message')} wait, so nothing is judged until some are delivered"
                self._say(f"waiting    {paused}" if is_full else "watching   messages are delivered again")
            self._is_full = is_full
        return self._n_waiting

    def _say_how_it_goes(self, now_s: float) -> None:
        if now_s < self._said_s + SAY_EVERY_S:
            return
        self._said_s = now_s
        counts = self._inspector.counts
        n_done = counts.judged + counts.not_judged
        words = [f"{n_done:,} done", self._rate.words(now_s), self._work.words()]
        words += [f"{plural(self._n_waiting, 'message')} to deliver"] if self._n_waiting else []
        if n_done != self._said_n or self._n_waiting or words[2]:
            self._say("           " + ", ".join(word for word in words if word))
        self._said_n = n_done
