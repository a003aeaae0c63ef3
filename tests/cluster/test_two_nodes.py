"""Two Ray nodes in two network namespaces: the results of one process, also when a node is killed and one is added."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from images import texture, write_image
from tiny_detector import fitted_detector
from two_ray_nodes import REPLACE_SECOND, TWO_NODES, environment, skip_without_namespaces

COUNT = 3000  # more than the first node scores until the second is ready

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path: Path) -> Path:
    skip_without_namespaces()
    for number in range(COUNT):
        write_image(tmp_path / "images" / f"{number:04d}.png", texture(number))
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    fitted_detector().save_pretrained(tmp_path / "model")
    return tmp_path


def detect(output: str, *words: str) -> list[str]:
    command = [sys.executable, "-m", "flawmap", "detect", "images", "--model", "model", "--output", output]
    return [*command, "--no-overlays", *words]


def records(folder: Path) -> list[dict]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    return sorted(map(json.loads, lines), key=lambda record: record["image"])


def one_process(work: Path) -> list[dict]:
    done = subprocess.run(detect("one", "--workers", "1"), cwd=work, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "not scored: images/broken.png" in done.stderr, done.stderr
    return records(work / "one")


def test_two_nodes_find_what_one_process_finds(work):
    command = [str(TWO_NODES), *detect("two", "--cluster", "auto")]
    done = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "not scored: images/broken.png" in done.stderr, done.stderr
    assert records(work / "two") == one_process(work)


def test_a_node_is_killed_and_one_is_added_and_every_image_is_answered_once(work):
    """The second node goes a second after its worker has begun; another one comes in its place."""
    lines = work / "two" / "results.jsonl"
    script = work / "change.sh"
    inner = " ".join(map(repr, detect("two", "--cluster", "auto")))
    script.write_text(
        f"""set -e
{inner} >said 2>&1 & running=$!
while ! grep -q "workers: 2" said 2>/dev/null; do kill -0 $running; sleep 0.1; done
sleep 1
echo killed after $(wc -l < {lines}) >&2
{REPLACE_SECOND}
wait $running || {{ code=$?; cat said >&2; exit $code; }}
"""
    )
    command = [str(TWO_NODES), "bash", str(script)]
    started = time.monotonic()
    done = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 2 and "killed after" in done.stderr, (done.stderr, time.monotonic() - started)
    assert "a worker was lost" in done.stdout + done.stderr, done.stderr
    assert records(work / "two") == one_process(work)
