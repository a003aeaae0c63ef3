"""``--cluster local``: Ray on this machine alone, for one command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assertions import files_and_bytes
from images import write_category
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
