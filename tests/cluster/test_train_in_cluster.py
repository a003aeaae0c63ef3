"""Shards of good images are encoded in a Ray cluster of this machine, and nothing else is different."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flawmap.engine.tensor_files import read_tensors
from images import write_good
from tiny_detector import write_tiny_recipe

TESTS = Path(__file__).parents[1]
SETTINGS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=memory"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "memory.shards=3"),
)
DYING = """
import os, sys
from pathlib import Path
from flawmap_cluster.train import in_cluster

def work(task, read):
    if task.name == "a" and not task.exists():
        task.touch()
        os._exit(1)
    return task.name

print(sorted(in_cluster("local")(work, [Path(sys.argv[1]) / name for name in "abc"])))
"""

pytestmark = pytest.mark.slow


def run(here: Path, *words: str) -> subprocess.CompletedProcess:
    pytest.importorskip("ray")
    places = os.pathsep.join([str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}  # as a worker has
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=900)


def test_a_cluster_trains_what_one_process_trains(tmp_path):
    write_good(tmp_path / "good", 64)
    write_tiny_recipe(tmp_path / "recipe.yaml", *SETTINGS)
    train = "-m", "flawmap", "train", "good", "--recipe", "recipe.yaml", "--device", "cpu"
    here = run(tmp_path, *train, "--run", "a/run")
    there = run(tmp_path, *train, "--run", "b/run", "--cluster", "local")
    assert here.returncode == there.returncode == 0, here.stderr + there.stderr
    assert "3 of 3: 64 images" in there.stderr and "left" in there.stderr and "workers: 1" in there.stderr
    for stage in ("encoding", "memory", "expectation"):
        found, expected = (read_tensors(tmp_path / name / f"run/checkpoints/{stage}.safetensors") for name in "ba")
        assert found.keys() == expected.keys()
        assert all((found[name] == expected[name]).all() for name in expected), stage


def test_a_shard_whose_worker_dies_is_encoded_by_another(tmp_path):
    (tmp_path / "dying.py").write_text(DYING)
    done = run(tmp_path, "dying.py", str(tmp_path))
    assert "[(0, 'a'), (1, 'b'), (2, 'c')]" in done.stdout, done.stderr
    assert "a worker was lost; 1 shard for others" in done.stderr
