"""What of a folder is judged, what is named, and what the journal says about it."""

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from bright_line import DEFECT, GOOD, SPOILT, gray, inspector_of

from flawmap.errors import UserError
from flawmap.watch.backoff import Backoff
from flawmap.watch.complete_files import CompleteFiles
from flawmap.watch.folder import WatchedFolder
from flawmap.watch.inspector import Inspector, Places
from flawmap.watch.journal import Journal
from flawmap.watch.rate import Rate
from flawmap.watch.session import HELD_S, FolderWork


class Line:
    """A watched folder with a clock of its own; each step takes a tenth of a second."""

    def __init__(self, tmp_path: Path, places: Places | None = None, once: bool = False) -> None:
        self.folder, self.journal_path, self.now_s, self.said = tmp_path / "in", tmp_path / "j.sqlite", 0.0, []
        self.folder.mkdir(exist_ok=True)
        self.journal = Journal(self.journal_path, ["webhook"])
        self.inspector: Inspector = inspector_of(self.journal, places, self.folder)
        self.inspector.say = self.said.append
        watched = WatchedFolder(str(self.folder), self.inspector.places.folders)
        files, rate = CompleteFiles(1.0), Rate(0.0)
        backoff = Backoff(random.Random(0))
        self.work = FolderWork(
            watched, self.inspector, files, rate, backoff, self.said.append, once, lambda: self.now_s
        )

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.work.step(self.now_s)
            self.now_s += 0.1

    def rows(self, columns: str = "image, status") -> list[tuple]:
        with sqlite3.connect(self.journal_path) as db:
            found = db.execute(f"SELECT {columns} FROM images ORDER BY number").fetchall()
        db.close()
        return [
            tuple(
                Path(v).relative_to(self.folder).as_posix() if c == "image" else v
                for c, v in zip(columns.split(", "), row, strict=True)
            )
            for row in found
        ]


@pytest.fixture
def line(tmp_path):
    made = Line(tmp_path)
    yield made
    made.journal.close()


def test_each_file_gets_one_row_and_one_message_whatever_it_is(line):
    gray(line.folder / "a" / "good.png", GOOD)
    gray(line.folder / "bad.png", DEFECT)
    gray(line.folder / "spoilt.png", SPOILT)
    (line.folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    (line.folder / "notes.txt").write_text("nothing")
    (line.folder / "x.png.part").write_bytes(b"half")
    line.run(5)
    assert sorted(line.rows("image, status, is_anomalous")) == [
        ("a/good.png", "judged", 0),
        ("bad.png", "judged", 1),
        ("broken.png", "unreadable", None),
        ("notes.txt", "left_out", None),
        ("spoilt.png", "not_scored", None),
        ("x.png.part", "left_out", None),
    ]
    assert line.journal.waiting() == {"webhook": 4}
    left_out = [said.split(":")[0] for said in line.said if said.startswith("left out")]
    assert sorted(left_out) == ["left out   notes.txt", "left out   x.png.part"]


def test_a_file_that_grows_waits_and_one_that_is_written_anew_is_judged_anew(line):
    whole = gray(line.folder.parent / "whole.png", GOOD, 40).read_bytes()
    for length in range(20, len(whole), 20):
        (line.folder / "slow.png").write_bytes(whole[:length])
        line.run(0.6)
    assert line.rows() == []
    (line.folder / "slow.png").write_bytes(whole)
    line.run(3)
    assert line.rows() == [("slow.png", "judged")]
    gray(line.folder / "slow.png", DEFECT, 40)
    line.run(3)
    assert line.rows("image, is_anomalous") == [("slow.png", 0), ("slow.png", 1)]


def test_a_restart_judges_nothing_again(tmp_path):
    first = Line(tmp_path)
    gray(first.folder / "a.png", GOOD)
    first.run(3)
    first.journal.close()
    again = Line(tmp_path)
    gray(again.folder / "b.png", GOOD)
    again.run(3)
    assert again.rows() == [("a.png", "judged"), ("b.png", "judged")]
    assert again.inspector.model.n_judged == 1
    again.journal.close()


def test_files_go_to_the_folder_of_their_verdict_which_is_not_watched(tmp_path):
    places = Places(tmp_path / "in" / "ok", tmp_path / "defect", tmp_path / "in" / "unread")
    line = Line(tmp_path, places)
    gray(line.folder / "cam1" / "p.png", GOOD)
    gray(line.folder / "p.png", DEFECT)
    (line.folder / "u.png").write_bytes(b"?")
    line.run(4)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == [
        "defect/p.png",
        "in/ok/cam1/p.png",
        "in/unread/u.png",
    ]
    gray(line.folder / "p.png", DEFECT)
    line.run(3)
    assert sorted(path.name for path in (tmp_path / "defect").iterdir()) == ["p-4.png", "p.png"]
    (tmp_path / "defect" / "p.png").rename(line.folder / "p.png")  # somebody takes it back
    line.run(3)
    assert len(line.rows()) == 4 and len(list((tmp_path / "defect").iterdir())) == 2
    line.journal.close()


def test_a_folder_that_cannot_be_written_keeps_the_verdict_and_is_tried_again(tmp_path):
    line = Line(tmp_path, Places(ok=tmp_path / "blocked" / "ok"))
    (tmp_path / "blocked").write_text("a file where a folder should be")
    gray(line.folder / "a.png", GOOD)
    line.run(3)
    assert line.rows("image, moved_to") == [("a.png", None)] and (line.folder / "a.png").exists()
    (tmp_path / "blocked").unlink()
    line.run(HELD_S + 1)
    assert line.rows("image, moved_to") == [("a.png", str(tmp_path / "blocked" / "ok" / "a.png"))]
    assert [said[:10].strip() for said in line.said] == ["not moved", "moved"]
    line.journal.close()


def test_a_share_that_is_gone_for_a_while_is_waited_for(line):
    gray(line.folder / "a.png", GOOD)
    line.run(3)
    away = line.folder.with_name("away")
    line.folder.rename(away)
    line.run(5)
    away.rename(line.folder)
    gray(line.folder / "b.png", GOOD)
    line.run(70)
    assert line.rows() == [("a.png", "judged"), ("b.png", "judged")]
    assert [said.split(" ")[0] for said in line.said] == ["waiting", "watching"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_given_up_after_a_while(line):
    gray(line.folder / "a.png", GOOD).chmod(0)
    line.run(10)
    assert line.rows() == []
    line.run(HELD_S)
    assert line.rows() == [("a.png", "unreadable")]


def test_a_file_that_another_program_holds_is_given_up_after_a_while(line, monkeypatch):
    gray(line.folder / "a.png", GOOD)
    read = Path.read_bytes

    def held(path):
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", held)
        line.run(10)
        assert line.rows() == []
        line.run(HELD_S)
    assert line.rows("image, status, problem") == [
        ("a.png", "unreadable", "the file cannot be read: Permission denied")
    ]


def test_once_ends_when_what_was_there_is_done(tmp_path):
    line = Line(tmp_path, once=True)
    gray(line.folder / "a.png", GOOD)
    line.run(0.5)
    gray(line.folder / "later.png", GOOD)
    while not line.work.is_finished:
        line.run(0.1)
        assert line.now_s < 10
    assert line.rows()[0] == ("a.png", "judged")
    line.journal.close()


def test_a_pattern_takes_what_matches(tmp_path):
    gray(tmp_path / "a" / "1.png", GOOD)
    gray(tmp_path / "a" / "2.jpeg.png", GOOD)
    shutil.copy(tmp_path / "a" / "1.png", tmp_path / "a" / "1.dat")
    found = WatchedFolder(f"{tmp_path}/*/1.*").files()
    assert sorted(state.path.name for state in found) == ["1.dat", "1.png"]


def test_wrong_places_are_refused(tmp_path):
    gray(tmp_path / "a.png", GOOD)
    for place, problem in ((tmp_path / "none", "there is no such folder"), (tmp_path / "a.png", "this is a file")):
        with pytest.raises(UserError, match=problem):
            WatchedFolder(str(place))
    with pytest.raises(UserError, match="cannot go to the folder that is watched"):
        WatchedFolder(str(tmp_path), [tmp_path])
