"""All boards in one table: what runs, what does not run again, and what the command says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from assertions import files_and_bytes
from flawmap_bench.boards.__main__ import main
from flawmap_bench.boards.all_boards import find, run
from flawmap_bench.boards.all_boards.run import BoardsOrder
from images import scratched, texture, write_good, write_image
from tiny_detector import write_tiny_recipe

METHODS = "standard,padim"


@pytest.fixture(autouse=True)
def elpv_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_elpv", lambda: None)


def write_board(root: Path, num_good: int) -> Path:
    write_good(root / "train" / "good")
    for number in range(num_good):
        write_image(root / "test" / "good" / f"{number}.png", texture(100 + number))
    for number in range(3):
        image, mask = scratched(200 + number)
        write_image(root / "test" / "scratch" / f"{number}.png", image)
        write_image(root / "ground_truth" / "scratch" / f"{number}_mask.png", mask.astype(np.uint8) * 255)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``screw`` with 40 good test images, and ``fibres`` with none."""
    write_board(tmp_path / "data" / "mvtec" / "screw", 40)
    write_board(tmp_path / "data" / "fibres", 0)
    return tmp_path / "data"


def words(root: Path, methods: str = METHODS, seeds: str = "0,1") -> list[str]:
    where = ["--root", str(root), "--output", str(root.parent / "out")]
    return [*where, "--methods", methods, "--seeds", seeds, "--device", "cpu", "--set", "data.image_size_px=32"]


def test_a_table_over_all_boards(root: Path, built: list[str], capsys: pytest.CaptureFixture[str]):
    before = files_and_bytes(root)
    assert main(words(root)) == 0
    text = capsys.readouterr().out
    assert built == ["standard", "padim"] * 4  # both boards with seed 0, then with seed 1
    board = root.parent / "out" / "board.md"
    assert board.read_text(encoding="utf-8") == text
    assert "| screw | flawmap, standard | 100.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 |" in text
    assert "| fibres | PaDiM | – | – | 100.0 ± 0.0 |" in text and " | 2 |\n" in text
    assert "| PaDiM | 100.0 (1 board) |" in text
    content = json.loads(board.with_suffix(".json").read_text(encoding="utf-8"))
    screw = next(row for row in content["rows"] if (row["board"], row["method"]) == ("screw", "standard"))
    assert screw["by_seed"]["image_auroc"] == {"0": 1.0, "1": 1.0} and screw["seeds"] == [0, 1]
    one, five = screw["false_alarms"]
    assert (one["n_good"], one["n_calibration"], one["rate"]) == (40, 24, 0.01)
    assert one["alarms"] == five["alarms"]  # 24 scores support 4 %: both thresholds lie at the highest or above
    padim = next(row for row in content["rows"] if row["method"] == "padim")
    assert padim["false_alarms"] == [] and padim["missed_at_5_percent"] is None  # it sets no threshold
    assert "## MVTec AD: PaDiM" in text and "mean of 1 of 15 categories" in text
    assert files_and_bytes(root) == before


def test_nothing_runs_twice_and_what_was_killed_runs_again(root: Path, built: list[str]):
    assert main(words(root, seeds="0")) == 0
    built.clear()
    assert main(words(root)) == 0
    assert built == ["standard", "padim"] * 2  # seed 1 alone
    built.clear()
    (killed,) = (root.parent / "out" / "fibres" / "runs").glob("padim-s1-*")
    (killed / "result.json").unlink()
    (killed / "done.json").unlink()
    assert main(words(root)) == 0
    assert built == ["padim"]


def test_recipes_train_in_full_with_a_threshold_and_others_within_minutes(root: Path, built: list[str]):
    assert main(words(root, f"{METHODS},standard+memory.tokens=2000", "0")) == 0
    jobs = [json.loads(path.read_text(encoding="utf-8")) for path in root.parent.glob("out/screw/runs/*/job.json")]
    facts = sorted((job["method"], len(job["overrides"]), job["budget_seconds"], job["with_threshold"]) for job in jobs)
    assert facts == [("padim", 1, 600.0, False), ("standard", 1, None, True), ("standard", 2, None, True)]
    text = (root.parent / "out" / "board.md").read_text(encoding="utf-8")
    assert "| screw | flawmap, standard, memory.tokens=2000 | 100.0 |" in text
    regions = text.partition("Regions above the map's threshold")[2].partition("\n## ")[0]
    assert "| screw | flawmap, standard |" in regions and "PaDiM" not in regions  # which has no threshold


def test_a_missing_peer_is_said_in_a_line_and_left_out(
    root: Path, built: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(run, "missing_package", lambda name: "anomalib" if name == "patchcore" else None)
    assert main(words(root, "patchcore,padim", "0")) == 0
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if "PatchCore" in line]
    assert len(lines) == 1 and "PatchCore-1 % is left out: anomalib is not installed (" in lines[0]
    assert set(built) == {"padim"} and "- PatchCore-1 % is left out: anomalib is not installed\n" in said.out
    assert main(words(root, "patchcore", "0")) == 2
    assert "error: anomalib is not installed" in capsys.readouterr().err


def test_a_method_that_fails_is_named_and_stops_nothing(
    root: Path, built: list[str], capsys: pytest.CaptureFixture[str]
):
    assert main(words(root, "riad,padim", "0")) == 0
    text = capsys.readouterr().out
    assert "- RIAD, screw: failed, seed 0: riad gives a score that is not a number\n" in text
    assert "| screw | RIAD | – | – | – | – | – | – | – | – | – | 0 |" in text and "| screw | PaDiM | 100.0 |" in text


def test_a_recipe_for_x_rays_runs_on_x_rays_alone(
    root: Path, built: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(words(root, "chest_xray", "0")) == 2
    assert "runs on chest X-rays only" in capsys.readouterr().err and not (tmp_path / "out").exists()
    write_board(root / "nih", 3)
    assert main([*words(root, "standard,chest_xray", "0"), "--boards", "nih,fibres"]) == 0
    assert built == ["standard", "chest_xray", "standard"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["--root", "nowhere"], "no such folder: nowhere"),
        (["--boards", "screws"], "did you mean screw?"),
        (["--methods", "padin"], "did you mean padim?"),
        (["--methods", "padim+a.b=1"], "only recipes have settings"),
        (["--methods", "quick+data.train_subset=4"], "all methods learn from the same images"),
        (["--seeds", "one"], "--seeds is 'one'"),
        (["--minutes-per-method", "0"], "must be above 0"),
    ],
)
def test_mistakes_end_before_anything_runs(
    root: Path, built: list[str], changes: list[str], problem: str, capsys: pytest.CaptureFixture[str]
):
    assert main([*words(root), *changes]) == 2
    error = capsys.readouterr().err
    assert problem in error and "remedy: " in error and "Traceback" not in error
    assert built == [] and not (root.parent / "out").exists()


def test_an_output_that_cannot_be_written_is_no_traceback(
    root: Path, built: list[str], capsys: pytest.CaptureFixture[str]
):
    (root.parent / "out").write_text("a file", encoding="utf-8")
    assert main(words(root)) == 2
    assert "error: " in (error := capsys.readouterr().err) and "Traceback" not in error and built == []


def test_a_folder_without_boards_ends_with_what_was_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no data set with good images") and str(tmp_path) in error
    assert "remedy: --root FOLDER" in error


def test_an_interruption_says_how_to_go_on(
    root: Path, built: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_method", interrupted)
    assert main(words(root)) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_without_words_standard_runs_everywhere_and_chest_xray_on_x_rays(tmp_path: Path):
    order = BoardsOrder(tmp_path, tmp_path / "out")
    assert (order.methods, order.seeds) == (("standard", "chest_xray"), (0, 1, 2))
    assert [run.is_for_xrays(name) for name in (*order.methods, "chest_xray+memory.tokens=9")] == [False, True, True]


@pytest.mark.slow
def test_after_a_kill_finished_runs_stay_and_the_others_follow(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    on_tokens = ("pretrain.enabled=false", "method=memory", "memory.blocks=[1, 2]", "memory.tokens=50")
    scored = "detect.image_score=mean_logit", "data.tiles=none"  # images of 32 px have too few patches for tiles
    recipe = write_tiny_recipe(tmp_path / "tiny.yaml", *on_tokens, *scored)
    order = [*words(root, str(recipe)), "--boards", "screw"]
    process = subprocess.Popen([sys.executable, "-m", "flawmap_bench.boards", *order], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 300
        while not (first := list(tmp_path.glob("out/screw/runs/*/result.json"))) and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        os.kill(process.pid, signal.SIGKILL)  # in the second run, or on the way to it
        process.wait()
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first}
    assert len(before) == 1
    assert main(order) == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first} == before
    assert "2 runs, 1 done, 1 to do" in capsys.readouterr().err
    (row,) = json.loads((tmp_path / "out" / "board.json").read_text(encoding="utf-8"))["rows"]
    assert row["seeds"] == [0, 1] and row["false_alarms"][1]["n_calibration"] == 24
    assert row["costs"]["train_processor_seconds"] > 0 and row["costs"]["peak_memory_mib"] > 10
