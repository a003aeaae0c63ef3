"""``--cluster local``: Ray on this machine alone, for one command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assertions import files_and_bytes
from images import write_category, write_good
from tiny_detector import fitted_detector
from two_ray_nodes import environment, flawmap_says, skip_without_ray

pytestmark = pytest.mark.slow

LISTENING = """
import psutil
from flawmap_cluster.connect import connected
with connected("local"):
    import ray
    assert ray.get(ray.remote(lambda: 6 * 7).remote()) == 42
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        for socket in process.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN:
                print(socket.laddr.ip.removeprefix('::ffff:'))
"""


def test_it_listens_on_no_address_that_others_reach():
    skip_without_ray()
    pytest.importorskip("psutil")
    command = [sys.executable, "-c", LISTENING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"127.0.0.1"}


def test_a_list_of_images_of_two_cameras_is_judged_as_by_one_process(tmp_path: Path):
    skip_without_ray()
    fitted_detector().save_pretrained(tmp_path / "model")
    default = json.loads((tmp_path / "model/calibration.json").read_text())
    (tmp_path / "model/cameras").mkdir()
    (tmp_path / "model/cameras/left.json").write_text(json.dumps(default | {"threshold": -1e6}))
    write_good(tmp_path / "images", 6)
    rows = [f"images/{number:03d}.png,{'left' if number % 2 else ''}" for number in range(6)]
    (tmp_path / "new.csv").write_text("\n".join(["image,camera", *rows]))
    found = []
    for name, words in (("here", ("--workers", "1")), ("there", ("--cluster", "local"))):
        flawmap_says("detect", "new.csv", "--model", "model", "--output", name, *words, cwd=tmp_path)
        records = json.loads((tmp_path / name / "result.json").read_text())["images"]
        found.append({one["image"]: one | {"overlay": None} for one in records})
    assert found[0] == found[1]
    assert [found[1][f"images/{number:03d}.png"]["threshold"] == -1e6 for number in range(6)] == [False, True] * 3


def test_an_evaluation_has_the_files_of_one_process(tmp_path: Path):
    skip_without_ray()
    write_category(tmp_path / "tile")
    fitted_detector().save_pretrained(tmp_path / "model")
    found = []
    for name, words in (("here", ()), ("there", ("--cluster", "local"))):
        done = flawmap_says("evaluate", "model", "tile", "--output", name, "--json", *words, cwd=tmp_path)
        found.append(json.loads(done.stdout) | {"seconds_per_image": 0, "command": ""})
    assert found[0] == found[1] and found[0]["threads"] == 1
    here, there = (files_and_bytes(tmp_path / name) for name in ("here", "there"))
    assert here.keys() == there.keys() and len(here) > 3
    assert [name for name in here if here[name] != there[name]] == ["metrics.json"]
