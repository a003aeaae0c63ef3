"""The journal and the moves, killed before or after any step that leaves a trace: one row, one file, no message lost.

A kill is an exception that nothing catches. Afterwards another process begins with what is on the disk.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import pytest
from bright_line import DEFECT, GOOD, gray, inspector_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flawmap.watch import journal as journal_module
from flawmap.watch.complete_files import CompleteFiles
from flawmap.watch.folder import WatchedFolder
from flawmap.watch.inspector import Places
from flawmap.watch.journal import Journal, Outbox

STEPS = ("link", "unlink", "replace", "open")  # of os, as moving uses them
MOST_STEPS = 12  # before and after a step count as two


class Killed(BaseException):
    """The process is no more."""


@contextmanager
def killed_at(n_left: int, without_links: bool = False) -> Iterator[None]:
    """Raise at the n-th chance; never for a negative number. ``without_links``: as on a network share."""
    left = [n_left]

    def chance() -> None:
        left[0] -= 1
        if left[0] == -1:
            raise Killed

    def around(name):
        original = getattr(os, name)

        def step(*arguments, **named):
            chance()
            if name == "link" and without_links:
                raise PermissionError(1, "Operation not permitted", str(arguments[0]))
            result = original(*arguments, **named)
            try:
                chance()
            except Killed:
                if name == "open":
                    os.close(result)
                raise
            return result

        return step

    @contextmanager
    def transaction(db):
        with original_transaction(db):
            yield
            chance()
        chance()

    original_transaction = journal_module._transaction
    steps = {name: around(name) for name in STEPS}
    with patch.multiple("os", **steps), patch.object(journal_module, "_transaction", transaction):
        yield


class KilledLine(RuleBasedStateMachine):
    """Files come, the watch works and is killed, messages are delivered and that is killed as well."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="flawmap-kills-"))
        self.contents: set[bytes] = set()
        self.received: list[str] = []
        (self.root / "in").mkdir()
        (self.root / "out").mkdir()

    @rule(name=st.sampled_from("abc"), value=st.sampled_from((GOOD, DEFECT, None)))
    def file_comes(self, name: str, value: int | None) -> None:
        path = self.root / "in" / f"{name}.png"
        if path.exists():
            return
        gray(path, GOOD if value is None else value, 4)
        data = path.read_bytes() if value is not None else b"not an image"
        path.write_bytes(data + str(len(self.contents)).encode())  # each content once
        self.contents.add(path.read_bytes())

    @rule(n=st.integers(-1, 4 * MOST_STEPS), without_links=st.booleans())
    def work(self, n: int, without_links: bool) -> None:
        """Judge all that is there; ``n``: when it is killed."""
        out = self.root / "out"
        journal = Journal(self.root / "j.sqlite", ["webhook"])
        try:
            with killed_at(n, without_links):
                inspector = inspector_of(journal, Places(out, out, out))
                inspector.finish_moves()
                for file in CompleteFiles(0.0).look(WatchedFolder(str(self.root / "in")).files(), 0.0):
                    inspector.judge_file(file.state)
        except Killed:
            pass
        finally:
            journal.close()

    @rule(n=st.integers(-1, 2))
    def deliver(self, n: int) -> None:
        outbox = Outbox(self.root / "j.sqlite", "webhook") if (self.root / "j.sqlite").exists() else None
        if outbox is None:
            return
        try:
            with killed_at(n):
                messages = outbox.waiting(2)
                self.received += [message.id for message in messages]
                outbox.note([message.number for message in messages], [])
        except Killed:
            pass
        finally:
            outbox.close()

    @invariant()
    def nothing_is_lost(self) -> None:
        files = [path.read_bytes() for folder in ("in", "out") for path in (self.root / folder).glob("*.png")]
        assert {content for content in files if content} == self.contents

    def teardown(self) -> None:
        self.work(-1, False)
        journal, ids = Journal(self.root / "j.sqlite"), set()
        rows = journal._db.execute("SELECT id, sha256, moved_to, status FROM images").fetchall()
        while journal.waiting():
            self.deliver(-1)
        journal.close()
        ids = {row[0] for row in rows}
        assert len(rows) == len(self.contents) == len({row[1] for row in rows})
        # a file that ended three processes is given up and not judged
        assert {row[3] for row in rows} <= {"judged", "unreadable", "not_scored"}
        assert not list((self.root / "in").iterdir())
        names = [path for path in (self.root / "out").iterdir() if not path.name.startswith(".")]
        assert {path.read_bytes() for path in names} == self.contents and len(names) == len(rows)
        assert {row[2] for row in rows} == {str(path) for path in names}
        assert set(self.received) == ids
        shutil.rmtree(self.root)


TestKilledLine = KilledLine.TestCase
TestKilledLine.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)


@pytest.mark.slow
class TestKilledLineAtLength(KilledLine.TestCase):
    settings = settings(max_examples=300, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("without_links", [False, True])
@pytest.mark.parametrize("n", range(MOST_STEPS))
def test_a_kill_at_each_step_of_one_file(n, without_links):
    line = KilledLine()
    line.file_comes("a", GOOD)
    line.work(n, without_links)
    line.nothing_is_lost()
    line.teardown()


def test_a_file_that_ends_every_process_is_given_up(tmp_path):
    """Three attempts, as after a crash of the decoder or for lack of memory; then the line goes on."""
    gray(tmp_path / "in" / "a.png", GOOD)
    for _ in range(5):
        journal = Journal(tmp_path / "j.sqlite")
        inspector = inspector_of(journal)

        def die(images):
            raise MemoryError

        inspector.model.predict_many = die
        (file,) = CompleteFiles(0.0).look(WatchedFolder(str(tmp_path / "in")).files(), 0.0)
        with suppress(MemoryError):
            inspector.judge_file(file.state)
        rows = journal._db.execute("SELECT status, problem FROM images").fetchall()
        journal.close()
    assert rows == [("not_scored", "flawmap ended each time that it judged this file")]
