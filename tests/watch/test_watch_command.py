"""``flawmap watch`` in this process, with a model of known answers."""

import json
import os
import random
import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from bright_line import CALIBRATION, DEFECT, FACTS, GOOD, BrightModel, gray, receiving
from filelock import FileLock

from flawmap.cli import main
from flawmap.cli.watch import _set_by_signals
from flawmap.runs.self_test import SelfTest
from flawmap.watch import session
from flawmap.watch.message import Message
from flawmap.watch.session import FolderWork


@pytest.fixture
def model(monkeypatch, tmp_path) -> BrightModel:
    """What --model opens, whatever it is called; commands run in tmp_path, and a look follows at once."""
    made = BrightModel()
    monkeypatch.setattr("flawmap.deploy.opened_model.open_model", lambda *_, **__: made)
    monkeypatch.setattr(session, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("flawmap.watch.backoff.FIRST_S", 0.05)
    monkeypatch.chdir(tmp_path)
    for name in ("SECRET", "AUTHORIZATION", "SECRET_FILE", "AUTHORIZATION_FILE"):
        monkeypatch.delenv(f"FLAWMAP_WEBHOOK_{name}", raising=False)
    return made


def watch(*words: object) -> int:
    return main(["watch", *map(str, words), "--model", "m.onnx", "--once", "--settle", "0.02"])


def test_a_folder_is_judged_moved_told_and_summed_up(model, capsys):
    gray(Path("in/good.png"), GOOD)
    gray(Path("in/bad.png"), DEFECT)
    with receiving() as receiver:
        receiver.answers = [503]
        words = ("in", "--webhook", receiver.address, "--ok-to", "ok", "--defect-to", "defect")
        assert watch(*words) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in sorted(out.splitlines())] == [["bad.png", "ANOMALY"], ["good.png", "ok"]]
    assert err.splitlines()[-1] == "done: 2 judged, 1 anomalous"
    assert "geheim" not in err and "not signed" in err
    assert Path("ok/good.png").is_file() and Path("defect/bad.png").is_file()
    messages = [msgspec.json.decode(body, type=Message, strict=True) for _, body in receiver.got]
    with sqlite3.connect("watch.sqlite") as db:
        rows = {row[0]: row[1:] for row in db.execute("SELECT id, image, is_anomalous, score, moved_to FROM images")}
    db.close()
    assert {one.id: (one.image, one.is_anomalous, one.score) for one in messages} == {
        number: row[:3] for number, row in rows.items()
    }
    assert sorted(row[3] for row in rows.values()) == [
        str(Path("defect/bad.png").resolve()),
        str(Path("ok/good.png").resolve()),
    ]


def test_json_prints_the_messages(model, capsys):
    gray(Path("in/bad.png"), DEFECT)
    Path("in/none.png").write_bytes(b"")
    assert watch("in", "--json") == 2  # an image was not judged
    found = sorted((json.loads(line) for line in capsys.readouterr().out.splitlines()), key=lambda one: one["image"])
    assert [(Path(one["image"]).name, one["status"], one["is_anomalous"]) for one in found] == [
        ("bad.png", "judged", True),
        ("none.png", "unreadable", None),
    ]
    assert found[0]["regions"][0]["box_xyxy_px"] == [0, 0, 12, 12] and found[0]["threshold"] == 100.0
    assert found[1]["problem"] == "the file is empty (0 bytes)"


def test_what_cannot_be_delivered_waits_for_the_next_start(model, capsys, monkeypatch):
    monkeypatch.setattr(session, "ONCE_DELIVERIES_S", 0.2)
    gray(Path("in/a.png"), GOOD)
    with receiving() as receiver:
        receiver.answers = [500] * 50
        assert watch("in", "--webhook", receiver.address) == 2
        assert "1 message to be delivered at the next start" in capsys.readouterr().err
        assert watch("in") == 0
        assert "the journal keeps 1 message for --webhook" in capsys.readouterr().err
        receiver.answers = []
        gray(Path("in/b.png"), GOOD)
        assert watch("in", "--webhook", receiver.address) == 0
    assert [Path(json.loads(body)["image"]).name for _, body in receiver.got] == ["a.png", "b.png"]


def test_a_model_that_fails_its_self_test_is_refused(model, capsys):
    model.facts = replace(FACTS, self_test=SelfTest(1.0, 1.0, 0.1, 0.1), score_names=("mean_logit",))
    gray(Path("in/a.png"), GOOD)
    assert watch("in") == 2
    assert "error: the self-test could not be run" in capsys.readouterr().err  # this model has no mean_logit
    assert not Path("watch.sqlite").exists()


def test_without_a_threshold_nothing_is_moved_as_good_or_anomalous(model, capsys):
    model.facts = replace(FACTS, calibration=None)
    gray(Path("in/a.png"), GOOD)
    assert watch("in", "--ok-to", "ok") == 2
    assert "flawmap calibrate m.onnx GOOD_IMAGES" in capsys.readouterr().err
    assert watch("in", "--json") == 0
    assert json.loads(capsys.readouterr().out)["is_anomalous"] is None


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["none"], "there is no such folder"),
        (["in", "--journal", "none/j.sqlite"], "the folder of the journal does not exist"),
        (["in", "--webhook", "host"], "must begin with http"),
        (["in", "--defect-to", "in"], "cannot go to the folder that is watched"),
        (["in", "--ok-to", "out", "--defect-to", "out"], "anomalous images would go among those of --ok-to"),
        (["in", "--unread-to", "out", "--defect-to", "out"], "anomalous images would go among those of --unread-to"),
    ],
)
def test_mistakes_are_named(model, words, problem, capsys):
    Path("in").mkdir()
    assert watch(*words) == 2
    assert problem in capsys.readouterr().err


def test_two_processes_do_not_share_a_journal(model, capsys):
    Path("in").mkdir()
    with FileLock(".watch.sqlite.lock"):
        assert watch("in") == 2
    assert "another flawmap watch uses this journal" in capsys.readouterr().err


def test_a_backlog_of_messages_stops_judging_until_some_are_delivered(model, capsys, monkeypatch):
    monkeypatch.setattr(session, "MOST_WAITING", 3)
    monkeypatch.setattr(session, "FULL_S", 0.05)
    generator = random.Random(0)
    for number in range(12):
        gray(Path(f"in/{number}.png"), generator.randint(0, 255))
    with receiving() as receiver:
        receiver.delay_s = 0.05
        monkeypatch.setattr(session.Session, "_count_waiting", _always(session.Session._count_waiting))
        assert watch("in", "--webhook", receiver.address) == 0
    err = capsys.readouterr().err
    assert "nothing is judged until some are delivered" in err and "messages are delivered again" in err
    assert len(set(receiver.ids)) == 12


def test_two_signals_at_once_stop_gracefully_and_one_more_ends_at_once(model, capsys, monkeypatch):
    Path("in").mkdir()
    monkeypatch.setattr(FolderWork, "step", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or 0.01)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["watch", "in", "--model", "m.onnx"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "stopped: 0 judged, 0 anomalous"
    assert signal.getsignal(signal.SIGTERM) is before
    with _set_by_signals() as stop:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        later = time.monotonic() + 2
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def _always(count):
    def counted(self, now_s):
        self._counted_s = float("-inf")
        return count(self, now_s)

    return counted


def test_a_drift_is_said_told_and_remembered(model, capsys):
    """Of twelve good images the scores are 0 to 11; images of 50 move away from them, and a restart goes on."""
    calibration = replace(CALIBRATION, held_out_scores=tuple(map(float, range(12))))
    model.facts = replace(FACTS, calibration=calibration)
    for start in (0, 20):
        for number in range(start, start + 20):
            gray(Path(f"in/{number:02d}.png"), GOOD, side_px=12 + number)
        assert watch("in", "--json") == 0
    out, err = capsys.readouterr()
    drifts = [json.loads(line)["drift"] for line in out.splitlines()]
    first = drifts.index(["scores"])
    assert first > 20 and drifts == [[]] * first + [["scores"]] * (40 - first)
    said = [line for line in err.splitlines() if line.startswith("drift")]
    assert len(said) == 1 and f"{first + 1} of {first + 1} images score higher than at least half of the 12" in said[0]
    assert "flawmap calibrate m.onnx GOOD_IMAGES" in said[0]


def test_journals_without_a_table_for_drift_are_read(model):
    gray(Path("in/good.png"), GOOD)
    assert watch("in") == 0
    with sqlite3.connect("watch.sqlite") as db:
        db.execute("DROP TABLE drift")
    db.close()
    gray(Path("in/bad.png"), DEFECT)
    assert watch("in") == 0
