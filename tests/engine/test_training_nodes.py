"""Training on two nodes: two network namespaces, each with its own address, or two processes that SLURM would start."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from flawmap.engine.tensor_files import read_tensors
from flawmap.runs.run_folder import RunFolder
from objectives_in_processes import NAMES, module_of

REPO = Path(__file__).parents[2]
TWO_NODES = REPO / "examples" / "two_nodes.sh"
OBJECTIVES = REPO / "tests" / "objectives_in_processes.py"
FLAWMAP = REPO / "tests" / "flawmap_saving_often.py"
# 24 images: 21 train, 5 steps an epoch; stage 1 has 40 steps, stage 2 has 5
TINY = (
    "method=paper",
    "data.image_size_px=32",
    "model.weights=random",
    "model.architecture=test_vit",
    "pretrain.enabled=true",
    "pretrain.epochs=8",
    "pretrain.batch_size=4",
    "pretrain.local_views=1",
    "pretrain.local_size_px=32",
    "pretrain.prototypes=4",
    "pretrain.center_outputs=true",
    "finetune.epochs=1",
    "finetune.batch_size=4",
    "detect.sizes_px=[32]",
    "compute.precision=fp32",
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("good_folder")]


def environment(**more: str) -> dict[str, str]:
    places = os.pathsep.join((str(REPO / "src"), str(REPO / "bench"), str(REPO / "tests")))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": places, "PATH": path, "OMP_NUM_THREADS": "1"} | more


def train_words(run: str, nodes: int, *words: str) -> list[str]:
    settings = [word for setting in (*TINY, f"compute.nodes={nodes}") for word in ("--set", setting)]
    return ["train", "parts", "--run", run, "--device", "cpu", *settings, *words]


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a program of Python on two nodes; its output goes to files."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip") or (os.cpu_count() or 1) < 2:
        pytest.skip("two network namespaces need Linux, root, iproute2 and two cores")
    if subprocess.run(["unshare", "-n", "true"], check=False).returncode:
        pytest.skip("this container may not make network namespaces")
    started: list[subprocess.Popen] = []

    def start(*words: str | Path) -> subprocess.Popen:
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            command = [str(TWO_NODES), sys.executable, *map(str, words)]
            started.append(subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=out, stderr=err))
        return started[-1]

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)  # the script removes the namespaces when it ends
        process.wait(timeout=60)


def said(folder: Path) -> str:
    return (folder / "err").read_text()


def steps(run: RunFolder) -> list[tuple[str, int]]:
    lines = run.log.read_text().splitlines() if run.log.is_file() else []
    return [(record["stage"], record["step"]) for record in map(json.loads, lines)]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, folder: Path) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < limit, said(folder)
        time.sleep(0.02)


def assert_same_weights(one: RunFolder, other: RunFolder) -> None:
    for stage in ("pretrain", "finetune"):
        tensors, expected = (read_tensors(run.stage_output(stage)) for run in (one, other))
        assert tensors.keys() == expected.keys()
        assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []


def test_every_objective_learns_on_two_nodes_what_one_process_learns_from_the_joint_batch(two_nodes, tmp_path: Path):
    assert two_nodes(OBJECTIVES, tmp_path / "two").wait(timeout=300) == 0, said(tmp_path)
    alone = [sys.executable, str(OBJECTIVES), str(tmp_path / "one")]
    subprocess.run(alone, env=environment(), check=True, timeout=300, capture_output=True)
    for name in NAMES:
        one, two = (torch.load(tmp_path / folder / f"{name}.pt", weights_only=True) for folder in ("one", "two"))
        initial = module_of(name).state_dict()
        moved = [
            key for key in one if initial[key].shape == one[key].shape and (one[key] - initial[key]).abs().max() > 1e-4
        ]
        assert len(moved) > 40, name
        for key, expected in one.items():
            torch.testing.assert_close(two[key], expected, atol=1e-5, rtol=1e-5, msg=f"{name}: {key}")


@pytest.mark.parametrize("loss", ["killed", "unplugged"])
def test_a_lost_node_ends_the_training_and_the_next_one_goes_on_to_the_same_weights(two_nodes, tmp_path, loss: str):
    whole, run = RunFolder(tmp_path / "whole" / "run"), RunFolder(tmp_path / "lost" / "run")
    undisturbed = two_nodes(FLAWMAP, *train_words("whole/run", 2))
    assert undisturbed.wait(timeout=300) == 0, said(tmp_path)
    assert whole.is_finished

    lost = two_nodes(FLAWMAP, *train_words("lost/run", 2))
    wait_until(lambda: len(steps(run)) >= 7, lost, tmp_path)
    second = f"flawmap-b-{lost.pid}"
    if loss == "killed":
        found = subprocess.run(["ip", "netns", "pids", second], capture_output=True, text=True, check=True)
        for number in found.stdout.split():
            os.kill(int(number), signal.SIGKILL)
    else:
        subprocess.run(["ip", "-n", second, "link", "set", "cable", "down"], check=True)
    assert lost.wait(timeout=90) != 0
    assert "error: another process of this training was lost" in said(tmp_path)
    assert str(REPO / "src") not in said(tmp_path)  # no traceback of ours; torchrun shows its own
    assert run.checkpoint("pretrain").is_file() and not run.is_finished
    assert 7 <= len(steps(run)) < 40

    resumed = two_nodes(FLAWMAP, *train_words("lost/run", 2, "--resume"))
    assert resumed.wait(timeout=300) == 0, said(tmp_path)
    assert run.is_finished
    assert_same_weights(run, whole)
    assert steps(run) == [("pretrain", step) for step in range(40)] + [("finetune", step) for step in range(5)]


def started_by_slurm(folder: Path, words: list[str], program: Path = FLAWMAP) -> list[tuple[int, str, str]]:
    """Two processes with the variables of srun, each in a folder of its own; their codes and outputs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = []
    for number in ("0", "1"):
        place = folder / f"node{number}"
        place.mkdir()
        (place / "parts").symlink_to(folder / "parts")
        slurm = {
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_NNODES": "2",
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NAME": "flawmap",
            "SLURM_NODELIST": "127.0.0.[1-2]",
            "SLURM_PROCID": number,
            "SLURM_NODEID": number,
            "SLURM_LOCALID": "0",
            "MASTER_PORT": str(port),
        }
        command, how = [sys.executable, str(program), *words], {"cwd": place, "env": environment(**slurm)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, **how, **pipes))
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def test_the_first_of_slurms_processes_alone_writes_and_speaks(tmp_path: Path):
    first, second = started_by_slurm(tmp_path, train_words("run", 2, "--json"))
    assert first[0] == 0 and json.loads(first[1])["finished"] is True and "pretrain" in first[2], first
    assert second == (0, "", "")
    assert [path.name for path in (tmp_path / "node1").iterdir()] == ["parts"]
    assert RunFolder(tmp_path / "node0" / "run").is_finished


OTHER_IMAGES = """
from flawmap import train
of_sound_data = train._rows
train._rows = lambda *of: [replace(row, sha256="0" * 64) if row.key == "003.png" else row for row in of_sound_data(*of)]
"""
NOT_A_NUMBER = """
from flawmap.paper.pretrain import PretrainModule
loss_of = PretrainModule.loss_of
def of_step_3(self, batch):
    found = loss_of(self, batch)
    return found._replace(loss=found.loss * float("nan" if self.global_step == 3 else 1))
PretrainModule.loss_of = of_step_3
"""


@pytest.mark.parametrize(
    ("change", "problem", "is_begun"),
    [
        (OTHER_IMAGES, "error: 1 image is not what the first process has found\n  at: 003.png", False),
        (NOT_A_NUMBER, "error: the loss is nan", True),
    ],
)
def test_what_goes_wrong_in_one_process_is_said_in_all(tmp_path: Path, change: str, problem: str, is_begun: bool):
    program = tmp_path / "program.py"
    lines = [f"    {line}" for line in change.strip().splitlines()]
    head = ["import os, runpy", "from dataclasses import replace", 'if os.environ["SLURM_PROCID"] == "1":']
    program.write_text("\n".join([*head, *lines, f'runpy.run_path({str(FLAWMAP)!r}, run_name="__main__")', ""]))
    for code, _, text in started_by_slurm(tmp_path, train_words("run", 2), program):
        assert code == 2 and problem in text and "Traceback" not in text, text
        assert text.count("error: ") == 1
    assert (tmp_path / "node0" / "run").exists() == is_begun
