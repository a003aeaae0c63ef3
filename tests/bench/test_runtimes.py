"""The load test of the server, and peers in processes of their own: what is counted, and what counts as wrong."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from flawmap.errors import UserError
from flawmap_bench.peers import peer_process
from flawmap_bench.peers.peer_process import PeerProcess
from flawmap_bench.speed import load_test


def explained(call: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as caught:
        call()
    return caught.value


def test_the_plan_is_the_same_each_time_and_mixes_bad_uploads_in():
    plan = load_test.plan(2000, 8)
    assert plan == load_test.plan(2000, 8) and [len(orders) for orders in plan] == [250] * 8
    kinds = Counter(upload if isinstance(upload, str) else "good" for uploads in plan for upload in uploads)
    assert kinds["good"] > 1700 and kinds["100 MB"] == 8
    assert kinds.keys() == {"good", *load_test.bad_uploads(b"x" * 10)}


def tally(**changes) -> load_test.Tally:
    seen = load_test.Tally()
    seen.seconds, seen.statuses, seen.megabytes = [0.1] * 99 + [2.0], Counter({200: 100}), [100.0] * 10
    for name, value in changes.items():
        setattr(seen, name, value)
    return seen


def test_a_calm_test_passed():
    text, passed = load_test.report(tally(), 100, 8, 10.0)
    assert passed and "100 answered in 10 s" in text and "10.0 per second; p50 100 ms, p99 100 ms" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"wrong": ["3: score 1, expected 2"]},
        {"statuses": Counter({200: 99})},  # one was lost
        {"megabytes": [100.0, 100.0, 110.0, 130.0, 180.0, 240.0]},
    ],
)
def test_a_mixed_up_or_lost_answer_or_growing_memory_is_not(changes):
    assert not load_test.report(tally(**changes), 100, 8, 10.0)[1]


def test_a_server_that_does_not_start_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["load_test", str(tmp_path / "none.onnx"), "10", "2"])
    assert load_test.main() == 2
    error = capsys.readouterr().err
    assert "the server did not become ready" in error and str(tmp_path / "none.onnx") in error


# ---- a peer in a process of its own


PEER = """
import sys
from flawmap_bench.peers import peer_process
class Counting:
    note = "counts, and writes what nobody asked for"
    def score(self, pixels):
        print("chatter", flush=True)
        with open(pixels, "a") as file:
            file.write("x")
if len(sys.argv) > 5 and sys.argv[1] == "broken":
    sys.exit("this method is broken; fix it")
peer_process.serve(Counting(), sys.argv[4])
"""


@pytest.fixture
def as_peer(tmp_path, monkeypatch):
    """Runs PEER in place of the module that would build a method."""
    program = tmp_path / "python"
    (tmp_path / "peer.py").write_text(PEER)
    source = Path(peer_process.__file__).parents[2]
    program.write_text(f'#!/bin/sh\nshift 2\nPYTHONPATH={source} exec {sys.executable} {tmp_path}/peer.py "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(peer_process.sys, "executable", str(program))


def test_a_peer_scores_once_each_time_it_is_told_and_its_chatter_is_passed_over(tmp_path, as_peer):
    counted = tmp_path / "counted"
    with PeerProcess("patchcore", "data", 56, counted, 1.0) as peer:
        assert peer.note == "counts, and writes what nobody asked for" and not counted.exists()
        for number in (1, 2, 3):
            assert 0 <= peer.score() < 60
            assert counted.read_text() == number * "x"
        process = peer.process
    assert process.poll() is not None


def test_a_peer_that_cannot_be_built_is_explained(tmp_path, as_peer):
    error = explained(lambda: PeerProcess("broken", "data", 56, tmp_path / "counted", 1.0))
    assert error.problem == "the peer's process has ended: this method is broken; fix it"
    assert error.place == "--peers" and "pip install" in error.remedy and "anomalib" in error.remedy
