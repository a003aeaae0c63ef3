"""The README's way for a newcomer: its bash blocks, run as they stand on a made-up folder of pictures.

Only two things are added, by a stand-in for ``.venv/bin/flawmap``: a recipe that trains in seconds, and a free port.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import flawmap
from flawmap.recipe.files import to_yaml
from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

README = Path(__file__).parents[1] / "README.md"
SECTION = "## Your own images"

STAND_IN = """#!/bin/sh
verb=$1; shift
case $verb in
  check|train) set -- "$@" --recipe {recipe} ;;
  serve) set -- "$@" --port {port} ;;
esac
PYTHONPATH={source} exec {python} -m flawmap $verb "$@"
"""


def blocks() -> list[str]:
    """The section's bash blocks, in order."""
    section = README.read_text(encoding="utf-8").split(f"{SECTION}\n")[1].split("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


def verbs(block: str) -> list[str]:
    return [words[1] for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def test_the_way_goes_from_a_folder_of_pictures_to_an_exported_file():
    way = [verb for block in blocks() for verb in verbs(block)]
    assert way == ["check", "train", "detect", "serve", "export", "detect", "calibrate", "evaluate", "report"]


@pytest.mark.slow
def test_each_command_of_the_way_does_what_is_said_of_it(tmp_path):
    for package in ("onnxscript", "uvicorn"):
        pytest.importorskip(package)
    port = pictures_and_stand_in(tmp_path)
    for block in blocks():
        if "serve" in verbs(block):
            assert 'id="table"' in page_of(block, tmp_path, port)
            continue
        done = subprocess.run(["bash", "-e"], input=block, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    by_run, by_file = (
        json.loads((tmp_path / folder / "result.json").read_text())["images"] for folder in ("detections", "by-file")
    )
    assert [one["score"] for one in by_file] == pytest.approx([one["score"] for one in by_run], abs=1e-4)
    assert [one["is_anomalous"] for one in by_file] == [one["is_anomalous"] for one in by_run]
    assert json.loads((tmp_path / "runs/parts/model/calibration.json").read_text())["false_alarm_rate"] == 0.05
    measured = json.loads((tmp_path / "runs/parts/evaluation/metrics.json").read_text())
    assert (measured["n_good"], measured["n_anomalous"]) == (6, 6)
    assert (tmp_path / "runs/parts/report.html").is_file() and list((tmp_path / "runs/parts").rglob("*.svg"))
    assert (tmp_path / "runs/check/parts/gallery.html").is_file()


def test_a_block_with_a_command_that_fails_fails(tmp_path):
    pictures_and_stand_in(tmp_path)
    block = blocks()[0].replace("parts/", "part/")
    done = subprocess.run(["bash", "-e"], input=block, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "error: no such folder: part" in done.stderr


def pictures_and_stand_in(here: Path) -> int:
    """The folders that the README speaks of, and ``.venv/bin/flawmap``; returns the port that it serves on."""
    write_good(here / "parts")
    write_good(here / "camera2" / "good", 20, first_seed=300)
    write_good(here / "labelled" / "test" / "good", 6, first_seed=400)
    for number in range(6):
        pixels = striped(500 + number)
        pixels[8:20, 10:24] = 0
        write_image(here / "labelled" / "test" / "scratch" / f"{number}.png", pixels)
    write_good(here / "line3", 2, first_seed=600)
    (here / "tiny.yaml").write_text(to_yaml(tiny_recipe()), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = here / ".venv" / "bin" / "flawmap"
    program.parent.mkdir(parents=True)
    source = Path(flawmap.__file__).parents[1]
    program.write_text(STAND_IN.format(recipe="tiny.yaml", port=port, source=source, python=sys.executable))
    program.chmod(0o755)
    return port


def page_of(block: str, here: Path, port: int) -> str:
    """Serve as the block says until the page has come and one picture was scored; then end it as Ctrl-C does."""
    environment = {name: value for name, value in os.environ.items() if name != "FLAWMAP_TOKEN"}
    started = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    server = subprocess.Popen(["bash", "-c", block], cwd=here, env=environment, **started)
    try:
        page = when_ready(f"http://127.0.0.1:{port}/", server)
        image = (here / "line3" / "000.png").read_bytes()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/detect", image, {"content-type": "image/png"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            assert "score" in json.loads(reply.read())
    finally:
        os.killpg(server.pid, signal.SIGINT)
        _, said = server.communicate(timeout=120)
    assert server.returncode in (0, 130) and "Traceback" not in said, said
    return page


def when_ready(address: str, server: subprocess.Popen) -> str:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert server.poll() is None, server.communicate()[1]
        try:
            with urllib.request.urlopen(address, timeout=10) as reply:
                return reply.read().decode()
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"nothing at {address}")
