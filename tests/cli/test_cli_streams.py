"""Streams that are closed, or whose reader goes away, in real processes."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import flawmap as package

SOURCE = Path(package.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def shell(line: str, *words: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run ``flawmap WORDS`` where the line of the shell has FLAWMAP."""
    command = shlex.join([sys.executable, "-m", "flawmap", *map(str, words)])
    whole = ["bash", "-c", line.replace("FLAWMAP", command)]
    return subprocess.run(whole, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=300)


SLOW = (">&-", "2>&-", "<&-", ">&- 2>&-")


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)])
def test_detection_goes_on_without_a_stream(trained, tmp_path, closed):
    images = trained.data / "test" / "hole"
    done = shell(f"FLAWMAP {closed}", "detect", images, "--model", trained.run, "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["complete"] is True and len(result["images"]) == 6
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"] for line in lines] == [image["image"] for image in result["images"]]
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".csv", ".json", ".jsonl", *[".png"] * 6]


@pytest.mark.parametrize("words", [["recipe"], ["check", "nowhere"], ["--version"]])
def test_other_verbs_keep_their_exit_code_without_streams(tmp_path, words):
    expected = shell("FLAWMAP", *words, cwd=tmp_path).returncode
    assert shell("FLAWMAP >&- 2>&-", *words, cwd=tmp_path).returncode == expected


def test_a_reader_that_goes_away_interrupts_and_the_result_says_so(trained, tmp_path):
    images = trained.data / "test" / "hole"
    words = ("detect", images, "--model", trained.run, "--output", "out")
    done = shell("FLAWMAP | true; echo ${PIPESTATUS[0]}", *words, cwd=tmp_path)
    assert done.stdout == "130\n"
    assert "interrupted: the reader of the output has gone; finished work is kept" in done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["complete"] is False and len(result["images"]) < 6
    again = shell("FLAWMAP", *words, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["complete"] is True and len({image["image"] for image in result["images"]}) == 6


def test_a_reader_that_wants_only_the_first_line_of_a_list_is_no_interruption(tmp_path):
    done = shell("FLAWMAP | head -1; echo ${PIPESTATUS[0]}", "recipe", cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "0" and done.stderr == ""
