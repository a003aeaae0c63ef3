"""Messages arrive at least once, in order, and a destination that fails is tried again after growing waits."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from bright_line import FACTS, BrightModel

from flawmap.errors import UserError
from flawmap.watch.backoff import Backoff
from flawmap.watch.delivery import BATCH, PARTLY_S, Delivery, Failed, Outcome, Refused
from flawmap.watch.journal import Journal, Outbox, Outgoing
from flawmap.watch.message import Image, message_about


class Scripted:
    """A destination that answers as told; then it takes everything."""

    key = name = "webhook"

    def __init__(self, script: list[Outcome]) -> None:
        self.script, self.arrived, self.is_up = script, [], True

    def deliver(self, messages: Sequence[Outgoing]) -> list[Outcome]:
        outcomes = [self.script.pop(0) if self.script else None for _ in messages]
        self.arrived += [message.number for message, outcome in zip(messages, outcomes, strict=True) if outcome is None]
        return outcomes

    def tend(self) -> Failed | None:
        return None if self.is_up else Failed("down")

    def close(self) -> None:
        pass


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "j.sqlite", ["webhook"])
    yield made
    made.close()


def add(journal: Journal, n: int) -> None:
    for number in range(n):
        image = Image("frame", "camera:0", 1, number, str(number))
        (detection,) = BrightModel().predict_many([np.zeros((2, 2, 3), np.uint8)])
        journal.add(image, message_about(image, detection, "judged", FACTS))


def delivery(tmp_path, destination: Scripted, said: list[str]) -> tuple[Delivery, Outbox]:
    made = Delivery(tmp_path / "j.sqlite", destination, Backoff(random.Random(0)), said.append)
    return made, Outbox(tmp_path / "j.sqlite", "webhook")


def test_messages_go_in_order_and_failures_wait_longer_each_time(journal, tmp_path):
    add(journal, BATCH + 2)
    said: list[str] = []
    destination = Scripted([Failed("no answer")] * BATCH * 3)
    sender, outbox = delivery(tmp_path, destination, said)
    waits = [sender.step(outbox) for _ in range(3)]
    assert [is_idle for _, is_idle in waits] == [False] * 3
    for number, (wait_s, _) in enumerate(waits):
        assert 0.5 * 2**number <= wait_s <= 2**number
    assert sender.step(outbox) == (0.0, False) and sender.step(outbox) == (0.0, False)
    assert destination.arrived == list(range(1, BATCH + 3)) and journal.waiting() == {}
    assert sender.step(outbox)[1]
    assert said == ["webhook: no answer; trying again until it works", "webhook takes messages again"]
    outbox.close()


def test_a_receiver_that_takes_some_messages_is_not_waited_for_longer_and_longer(journal, tmp_path):
    """Growing waits after each batch with one failure would, at one failure in ten, never catch up with a line."""
    add(journal, 40)
    destination = Scripted([outcome for _ in range(8) for outcome in (*[None] * 4, Failed("503"))])
    sender, outbox = delivery(tmp_path, destination, said := [])
    waits = []
    while journal.waiting():
        waits.append(sender.step(outbox)[0])
    assert max(waits) == PARTLY_S and sorted(destination.arrived) == list(range(1, 41)) and said == []
    outbox.close()


def test_a_refused_message_stops_no_other_and_is_kept(journal, tmp_path):
    add(journal, 3)
    said: list[str] = []
    destination = Scripted([None, Refused("answered 422"), Failed("later")])
    sender, outbox = delivery(tmp_path, destination, said)
    sender.step(outbox)
    sender.step(outbox)
    assert destination.arrived == [1, 3] and journal.waiting() == {}
    assert said[0] == "webhook refused a message, which is kept: answered 422"
    outbox.try_refused_again()
    assert [(one.number, one.body[:1]) for one in outbox.waiting(9)] == [(2, "{")]
    outbox.close()


def test_an_idle_connection_is_kept_up_with_the_same_waits(journal, tmp_path):
    destination = Scripted([])
    destination.is_up = False
    sender, outbox = delivery(tmp_path, destination, [])
    first, second = sender.step(outbox), sender.step(outbox)
    assert first[0] <= 1.0 <= second[0] and not first[1]
    outbox.close()


def test_a_thread_delivers_what_is_there_and_what_comes_and_ends(journal, tmp_path):
    add(journal, 1)
    destination = Scripted([])
    sender = Delivery(tmp_path / "j.sqlite", destination, Backoff(random.Random(0)), print)
    sender.start()
    image = Image("frame", "camera:1", 1, 1, "")
    journal.add(image, message_about(image, UserError("x"), "not_scored", FACTS))
    sender.wake()
    sender.stop(5.0)
    sender.join(5.0)
    assert destination.arrived == [1, 2]


def test_waits_end_at_a_minute_and_begin_anew_after_a_success():
    backoff = Backoff(random.Random(1))
    waits = [backoff.next_s() for _ in range(100)]
    assert all(0.5 * min(60, 2**n) <= wait <= min(60, 2**n) for n, wait in enumerate(waits))
    assert len({round(wait, 6) for wait in waits[10:]}) > 80  # chance
    backoff.succeed()
    assert backoff.next_s() <= 1.0


def test_a_journal_of_another_kind_is_refused(tmp_path):
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 50)
    with pytest.raises(UserError, match="cannot be opened"):
        Journal(tmp_path / "text")
    import sqlite3

    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE images (x)")
    other.close()
    with pytest.raises(UserError, match="another program's database"):
        Journal(tmp_path / "other.sqlite")
    newer = sqlite3.connect(tmp_path / "newer.sqlite")
    newer.execute("CREATE TABLE images (x)")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(UserError, match="the format is 99"):
        Journal(tmp_path / "newer.sqlite")
