"""Deliver the messages of the outbox: at least once, in bounded batches, with growing waits after a failure."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from flawmap.watch.backoff import Backoff
from flawmap.watch.journal import Outbox, Outgoing

BATCH = 8  # messages on their way at the same time; their order is kept from batch to batch
PARTLY_S = 0.5  # after a batch of which some arrived: growing waits are for a destination that is down
IDLE_S = 0.5  # until an idle outbox is looked at again, if nobody wakes it


@dataclass(frozen=True)
class Failed:
    """A message that did not arrive, for whatever reason; it is tried again."""

    reason: str


@dataclass(frozen=True)
class Refused:
    """A message that the destination will never take as it is; it is tried again at the next start."""

    reason: str


Outcome = Failed | Refused | None  # None: it has arrived


@runtime_checkable
class Destination(Protocol):
    """Where messages go."""

    @property
    def key(self) -> str:
        """In the journal; the same after a change of address, so that waiting messages go to the new one."""
        ...

    @property
    def name(self) -> str:
        """For people, without secrets."""
        ...

    def deliver(self, messages: Sequence[Outgoing]) -> list[Outcome]:
        """Send them, and wait until each has arrived or not."""
        ...

    def tend(self) -> Failed | None:
        """Keep up the connection while there is nothing to send."""
        ...

    def close(self) -> None:
        """Say goodbye."""
        ...


class Delivery:
    """Delivers the messages for one destination, in a thread of its own after :meth:`start`.

    Args:
        journal: its file.
        destination: where they go.
        backoff: after failures.
        say: prints a line for people.
    """

    def __init__(self, journal: Path, destination: Destination, backoff: Backoff, say: Callable[[str], None]) -> None:
        self._journal, self._destination, self._backoff, self._say = journal, destination, backoff, say
        self._outbox: Outbox | None = None
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._deadline_s, self._is_patient = float("inf"), False
        self._thread = threading.Thread(target=self._run, name=destination.key, daemon=True)

    def start(self) -> None:
        """Begin; messages that an earlier process left are delivered first."""
        self._thread.start()

    def wake(self) -> None:
        """There is a new message."""
        self._wake.set()

    def stop(self, grace_s: float, is_patient: bool = False) -> None:
        """Deliver what waits until the end of the grace period, or until the first failure if it is not patient.

        The rest waits in the journal.
        """
        self._deadline_s, self._is_patient = time.monotonic() + grace_s, is_patient
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended. One that hangs in a request is left behind."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        self._outbox = Outbox(self._journal, self._destination.key)
        self._outbox.try_refused_again()
        try:
            while True:
                wait_s, is_idle = self.step(self._outbox)
                if self._stopping.is_set():
                    left_s = self._deadline_s - time.monotonic()
                    if is_idle or left_s <= 0 or (wait_s > 0 and not self._is_patient):
                        break
                    time.sleep(min(wait_s, left_s))
                elif is_idle:
                    self._wake.wait(wait_s)
                    self._wake.clear()
                elif wait_s > 0:
                    self._stopping.wait(wait_s)
        finally:
            self._destination.close()
            self._outbox.close()

    def step(self, outbox: Outbox) -> tuple[float, bool]:
        """Deliver one batch.

        Returns:
            the seconds to wait before the next, and whether nothing waits, so that a new message ends the wait.
        """
        messages = outbox.waiting(BATCH)
        if not messages:
            failure = self._destination.tend()
            return (self._after_failure(failure.reason), False) if failure else (IDLE_S, True)
        outcomes = self._destination.deliver(messages)
        pairs = list(zip(messages, outcomes, strict=True))
        refused = [(message.number, outcome.reason) for message, outcome in pairs if isinstance(outcome, Refused)]
        outbox.note([message.number for message, outcome in pairs if outcome is None], refused)
        for _, reason in refused:
            self._say(f"{self._destination.name} refused a message, which is kept: {reason}")
        failed = [outcome.reason for outcome in outcomes if isinstance(outcome, Failed)]
        if len(failed) == len(outcomes):
            return self._after_failure(failed[0]), False
        if self._backoff.n_failures:
            self._say(f"{self._destination.name} takes messages again")
        self._backoff.succeed()
        return PARTLY_S if failed else 0.0, False

    def _after_failure(self, reason: str) -> float:
        if not self._backoff.n_failures:  # the first of a row; the rate line counts what waits
            self._say(f"{self._destination.name}: {reason}; trying again until it works")
        return self._backoff.next_s()
