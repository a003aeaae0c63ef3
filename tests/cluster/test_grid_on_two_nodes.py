"""A grid of six rows on two Ray nodes: the results of one process, also when a node is killed and one is added."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from images import write_category
from tiny_detector import write_tiny_recipe
from two_ray_nodes import REPLACE_SECOND, TWO_NODES, environment, skip_without_namespaces

TABLE = """
title: Simulators
rows:
  - {name: ours}
  - {name: CutPaste, set: {finetune.simulation.simulator: cutpaste}}
  - {name: FPI, set: {finetune.simulation.simulator: fpi}}
  - {name: NSA, set: {finetune.simulation.simulator: nsa}}
  - {name: scar, set: {finetune.simulation.simulator: scar}}
  - {name: PII, set: {finetune.simulation.simulator: pii}}
"""
TIMES = {"train_seconds", "seconds_per_image", "resumed"}

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path: Path) -> Path:
    skip_without_namespaces()
    write_category(tmp_path / "tile")
    write_tiny_recipe(tmp_path / "base.yaml", "pretrain.steps=20", "finetune.steps=60")
    (tmp_path / "six.yaml").write_text(TABLE, encoding="utf-8")
    return tmp_path


def benchmark(output: str, *words: str) -> list[str]:
    command = [sys.executable, "-m", "flawmap", "benchmark", "ablations", "tile", "--base", "base.yaml"]
    return [*command, "--table", "six.yaml", "--output", output, "--device", "cpu", *words]


def run(work: Path, command: list[str]) -> str:
    done = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stderr


def results(folder: Path) -> dict[str, dict]:
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/*/ablation.json")}
    return {key: {k: v for k, v in result.items() if k not in TIMES} for key, result in found.items()}


def trainings_of_stage_1(folder: Path) -> int:
    """Runs whose own log has steps of it."""
    return sum('"pretrain"' in log.read_text() for log in folder.glob("runs/*/log.jsonl"))


def test_two_nodes_find_what_one_process_finds_and_stage_1_runs_once(work):
    run(work, ["taskset", "-c", "0", *benchmark("one")])
    said = run(work, [str(TWO_NODES), *benchmark("two", "--cluster", "auto")])
    assert "6/6 runs" in said and "per hour, about 0s left" in said
    assert len(results(work / "two")) == 6 and results(work / "two") == results(work / "one")
    assert trainings_of_stage_1(work / "two") == trainings_of_stage_1(work / "one") == 1
    for name in ("one", "two"):
        assert len(list((work / name / "runs" / "stages").glob("pretrain-*.safetensors"))) == 1
    repeated = run(work, ["taskset", "-c", "0", *benchmark("two")])  # by one process now
    assert "6 runs, 6 done, 0 to do" in repeated


def test_a_node_is_killed_and_one_is_added_and_every_row_is_answered_once(work):
    run(work, ["taskset", "-c", "0", *benchmark("one")])
    script = work / "change.sh"
    inner = " ".join(map(repr, benchmark("two", "--cluster", "auto")))
    script.write_text(
        f"""set -e
{inner} >said 2>&1 & running=$!
while ! grep -q "1/6 runs" said 2>/dev/null; do kill -0 $running; sleep 0.1; done
sleep 1
for process in $(ip netns pids "$FLAWMAP_SECOND_NODE"); do tr '\\0' ' ' </proc/$process/cmdline; done >at_work
{REPLACE_SECOND}
wait $running || {{ code=$?; cat said >&2; exit $code; }}
cat said >&2
"""
    )
    said = run(work, [str(TWO_NODES), "bash", str(script)])
    assert said.count("/6 runs,") == 6
    assert "ray::run_here" in (work / "at_work").read_text(), "the killed node was at work on no row"
    assert results(work / "two") == results(work / "one")
    assert trainings_of_stage_1(work / "two") == 1
