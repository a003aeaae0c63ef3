"""What README.md and docs/own-images.md tell a newcomer to type, run as it stands on made-up images.

A stand-in for ``flawmap`` that is found first adds only two things: a recipe that trains in seconds, and a free port.
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

import numpy as np
import pytest

import flawmap
from annotation_files import write_text
from flawmap.recipe.files import to_yaml
from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

REPO = Path(__file__).parents[1]
README, GUIDE = REPO / "README.md", REPO / "docs" / "own-images.md"
SECTION = "## Your own images"
INSTALL = "pip install"

STAND_IN = """#!/bin/sh
verb=$1; shift
case $verb in
  check|train) set -- "$@" --recipe {recipe} ;;
  serve) set -- "$@" --port {port} ;;
esac
PYTHONPATH={source} exec {python} -m flawmap $verb "$@"
"""


def section() -> str:
    return README.read_text(encoding="utf-8").split(f"{SECTION}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str = "bash") -> list[str]:
    """The blocks of a language in order, without their indentation in lists and without the installation."""
    indented = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    bare = [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in indented]
    return [block for block in bare if INSTALL not in block]


def readme_blocks() -> list[str]:
    return blocks(section())


def guide_blocks() -> list[str]:
    return blocks(GUIDE.read_text(encoding="utf-8"))


def verbs(block: str) -> list[str]:
    return [words[1] for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def test_readme_and_guide_go_from_images_to_an_exported_file_and_a_report():
    assert [verb for block in readme_blocks() for verb in verbs(block)] == [
        "check",
        "train",
        "detect",
        "export",
        "serve",
    ]
    assert [verb for block in guide_blocks() for verb in verbs(block)] == [
        *("check", "manifest", "check", "calibrate", "detect", "evaluate", "report"),
    ]


@pytest.mark.slow
def test_each_command_does_what_is_said_of_it(tmp_path):
    for package in ("onnxscript", "uvicorn"):
        pytest.importorskip(package)
    port = images_and_stand_in(tmp_path)
    for block in [*readme_blocks(), *guide_blocks()]:
        if "serve" in verbs(block):
            assert 'id="table"' in page_of(block, tmp_path, port)
            continue
        done = run_block(block, tmp_path)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    images = json.loads((tmp_path / "detections" / "result.json").read_text())["images"]
    assert len(images) == 2
    assert json.loads((tmp_path / "runs/parts/model/cameras/camera2.json").read_text())["false_alarm_rate"] == 0.05
    measured = json.loads((tmp_path / "runs/parts/evaluation/metrics.json").read_text())
    assert (measured["n_good"], measured["n_anomalous"]) == (6, 6)
    assert (tmp_path / "runs/parts/report.html").is_file()
    assert list((tmp_path / "runs/parts").rglob("*.svg"))
    assert (tmp_path / "manifest.csv").is_file() and len(list((tmp_path / "masks").rglob("*.png"))) == 1
    assert (tmp_path / "runs/check/parts/gallery.html").is_file()


@pytest.mark.slow
def test_the_python_example_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_good(Path("parts"))
    write_image(Path("line3/0002.png"), striped(2))
    (block,) = blocks(section(), "python")
    assert "AnomalyDetector()" in block
    names = {"tiny": tiny_recipe()}
    exec(block.replace("AnomalyDetector()", "AnomalyDetector(tiny)"), names)
    assert names["result"].anomaly_map.shape == striped(2).shape[:2]
    assert np.isclose(names["detector"].predict("line3/0002.png").score, names["result"].score)


def test_a_block_with_a_command_that_fails_fails(tmp_path):
    images_and_stand_in(tmp_path)
    done = run_block(readme_blocks()[0].replace("parts/", "part/"), tmp_path)
    assert done.returncode == 2
    assert "part" in done.stderr


def environment(here: Path) -> dict[str, str]:
    """The stand-in is found first, and the server needs no token."""
    kept = {name: value for name, value in os.environ.items() if name != "FLAWMAP_TOKEN"}
    return kept | {"PATH": f"{here / 'bin'}:{os.environ['PATH']}"}


def run_block(block: str, here: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-e"], input=block, cwd=here, env=environment(here), capture_output=True, text=True)


def images_and_stand_in(here: Path) -> int:
    """The folders that the documents speak of, and the stand-in; returns the port that it serves on."""
    write_good(here / "parts")
    write_good(here / "camera2" / "good", 20, first_seed=300)
    write_good(here / "labelled" / "test" / "good", 6, first_seed=400)
    for number in range(6):
        pixels = striped(500 + number)
        pixels[8:20, 10:24] = 0
        write_image(here / "labelled" / "test" / "scratch" / f"{number}.png", pixels)
    write_good(here / "line3", 2, first_seed=600)
    write_good(here / "new", 3, first_seed=650)
    annotated = write_good(here / "annotated" / "images", 26, first_seed=700).parent
    write_text(annotated / "labels" / "000.txt", "0 0.5 0.5 0.2 0.2\n")
    (here / "tiny.yaml").write_text(to_yaml(tiny_recipe()), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = here / "bin" / "flawmap"
    program.parent.mkdir()
    source = Path(flawmap.__file__).parents[1]
    program.write_text(STAND_IN.format(recipe="tiny.yaml", port=port, source=source, python=sys.executable))
    program.chmod(0o755)
    return port


def page_of(block: str, here: Path, port: int) -> str:
    """Serve as the block says until the page is there and one image was scored; then end it as Ctrl-C does."""
    started = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    server = subprocess.Popen(["bash", "-c", block], cwd=here, env=environment(here), **started)
    try:
        page = when_ready(f"http://127.0.0.1:{port}/", server)
        image = (here / "line3" / "000.png").read_bytes()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/detect", image, {"content-type": "image/png"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            assert "score" in json.loads(reply.read())
    finally:
        os.killpg(server.pid, signal.SIGINT)
        _, errors = server.communicate(timeout=120)
    assert server.returncode in (0, 130)
    assert "Traceback" not in errors
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
