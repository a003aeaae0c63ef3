"""The board of methods: who is run, who is not run again, and what is told when one fails."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from assertions import files_and_bytes
from flawmap.errors import UserError
from flawmap_bench.boards import method_job, peers
from flawmap_bench.boards.peers import PeersOrder, planned_jobs, run_peers


def order_for(data: Path, out: Path, *methods: str, seeds: tuple[int, ...] = (0,)) -> PeersOrder:
    return PeersOrder(str(data), methods, seeds, out, 32, 1.0, ("data.image_size_px=32",), "cpu")


def test_a_board_says_what_each_method_measured(mvtec_folder: Path, tmp_path: Path, built: list[str]):
    before = files_and_bytes(mvtec_folder)
    path = run_peers(order_for(mvtec_folder, tmp_path / "out", "padim", "spade", seeds=(0, 1)), "flawmap benchmark x")
    assert built == ["padim", "spade", "padim", "spade"]  # a whole board of one seed comes first
    content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    padim = content["rows"][0]["measured"]["0"]
    assert padim["image"]["auroc"]["value"] == 1.0 and padim["pixel"]["auroc"]["value"] > 0.99
    assert padim["parameters"] == 24 and padim["note"] == "a method for tests"
    assert padim["train_seconds"] >= 0 and padim["seconds_per_image"] > 0 and padim["peak_memory_mib"] > 10
    text = path.read_text(encoding="utf-8")
    assert "| PaDiM | **100.0 ± 0.0 (2 seeds)** |" in text and "24 good images to train; 6 good, 6 anomalous" in text
    assert f", cpu, threads of each method: {torch.get_num_threads()}\n" in text
    with path.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"], row["image_auroc"]) for row in rows][:2] == [
        ("padim", "0", "1.0"),
        ("padim", "1", "1.0"),
    ]
    assert path.with_suffix(".html").is_file() and path.with_suffix(".svg").is_file()
    assert files_and_bytes(mvtec_folder) == before


def test_nothing_is_run_twice_and_a_new_method_costs_only_itself(
    mvtec_folder: Path, tmp_path: Path, built: list[str], capsys: pytest.CaptureFixture[str]
):
    run_peers(order_for(mvtec_folder, tmp_path, "padim"), "")
    first = {name: content for name, content in files_and_bytes(tmp_path / "runs").items()}
    built.clear()
    path = run_peers(order_for(mvtec_folder, tmp_path, "padim", "spade"), "")
    assert built == ["spade"] and "2 runs, 1 done, 1 to do" in capsys.readouterr().err
    assert first.items() <= files_and_bytes(tmp_path / "runs").items()
    assert path.read_text(encoding="utf-8").count("100.0 [") >= 2
    assert not list(tmp_path.rglob("scored"))  # maps are gone once they are counted


def test_another_budget_is_another_run(mvtec_folder: Path, tmp_path: Path, built: list[str]):
    run_peers(order_for(mvtec_folder, tmp_path, "padim"), "")
    run_peers(PeersOrder(str(mvtec_folder), ("padim",), (0,), tmp_path, 32, 2.0, (), "cpu"), "")
    assert built == ["padim", "padim"]


def test_what_was_killed_half_way_begins_again(mvtec_folder: Path, tmp_path: Path, built: list[str]):
    run_peers(order_for(mvtec_folder, tmp_path, "padim"), "")
    (run,) = (tmp_path / "runs").glob("padim-*")
    expected = json.loads((run / "result.json").read_text(encoding="utf-8"))["image"]
    (run / "result.json").unlink()
    (run / "done.json").unlink()
    (run / "scored").mkdir()
    (run / "scored" / "00000.npz").write_bytes(b"torn")
    run_peers(order_for(mvtec_folder, tmp_path, "padim"), "")
    assert built == ["padim", "padim"]
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["image"] == expected


def test_a_method_that_fails_costs_the_others_nothing(mvtec_folder: Path, tmp_path: Path, built: list[str]):
    path = run_peers(order_for(mvtec_folder, tmp_path, "riad", "padim"), "")
    text = path.read_text(encoding="utf-8")
    assert "- RIAD: failed, seed 0: riad gives a score that is not a number" in text
    assert "| PaDiM | **100.0" in text and "| RIAD | – | – |" in text
    built.clear()
    run_peers(order_for(mvtec_folder, tmp_path, "riad", "padim"), "")
    assert built == ["riad"]  # the next call tries again


def test_a_process_is_told_no_label(mvtec_folder: Path, tmp_path: Path, built: list[str]):
    run_peers(order_for(mvtec_folder, tmp_path, "padim"), "")
    (job,) = (tmp_path / "runs").glob("*/job.json")
    content = json.loads(job.read_text(encoding="utf-8"))
    assert len(content["good"]) == 24 and len(content["to_score"]) == 12
    assert not [key for key in content if "truth" in key or "label" in key or "mask" in key]
    assert "ground_truth" not in job.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "problem"),
    [("padin", "did you mean padim?"), ("mine.yaml", "'mine.yaml'"), ("", "''")],
)
def test_an_unknown_method_is_an_error_before_anything_runs(
    mvtec_folder: Path, tmp_path: Path, built: list[str], name: str, problem: str
):
    with pytest.raises(UserError) as caught:
        run_peers(order_for(mvtec_folder, tmp_path / "out", "padim", name), "")
    assert problem in caught.value.problem and caught.value.place == "--methods"
    assert built == [] and not (tmp_path / "out").exists()


# ---- real processes


@pytest.mark.parametrize(("is_fitted", "code"), [(False, -1), (True, 0)])
def test_a_training_without_end_is_stopped_and_a_long_scoring_is_not(
    is_fitted: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peers, "POLL_SECONDS", 0.05)
    if is_fitted:
        (tmp_path / method_job.FITTED).write_text("{}", encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({0.5 if is_fitted else 60})"])
    try:
        assert peers.wait_for(process, tmp_path, 0.2) == code
    finally:
        process.kill()
        process.wait()
    if is_fitted:
        assert not (tmp_path / method_job.FAILED).exists()
    else:
        assert peers.failure_reason(tmp_path, code) == "stopped, its training was not over after 0s"


def test_the_limit_leaves_room_for_loading_and_for_one_pass_over_all_images(mvtec_folder: Path, tmp_path: Path):
    order = order_for(mvtec_folder, tmp_path, "padim")
    jobs, _ = planned_jobs(order)
    assert peers.training_limit_seconds(jobs["padim", 0]) == 120 + 3 * 60
    endless, _ = planned_jobs(replace(order, minutes_per_method=None))
    assert peers.training_limit_seconds(endless["padim", 0]) is None


@pytest.mark.slow
def test_a_method_runs_in_a_process_of_its_own(mvtec_folder: Path, tmp_path: Path):
    order = PeersOrder(str(mvtec_folder), ("fpi",), (0,), tmp_path, 32, None, (), "cpu", max_steps=2)
    path = run_peers(order, "")
    (result,) = (tmp_path / "runs").glob("*/result.json")
    found = json.loads(result.read_text(encoding="utf-8"))
    assert "2 steps of 8 images" in found["note"] and found["parameters"] > 1000
    assert 0 <= found["image"]["auroc"]["value"] <= 1 and "| FPI |" in path.read_text(encoding="utf-8")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="looks at processes as Linux shows them")
def test_a_killed_board_leaves_no_process_behind(tmp_path: Path):
    """The waiting process is what ``main`` starts; its parent dies by SIGKILL, which nobody can catch."""
    child = (
        "import time; from flawmap_bench.boards.method_job import end_with_parent; end_with_parent(); "
        "print('ready', flush=True); time.sleep(300)"
    )
    parent = (
        "import subprocess, sys; "
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid, flush=True); p.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert alive(pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert until(lambda: not alive(pid))
