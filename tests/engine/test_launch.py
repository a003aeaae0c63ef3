"""How processes come together, and what is refused before anything is written."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flawmap.cli import main
from flawmap.data.leave_out import LeaveOut
from flawmap.engine import processes
from flawmap.engine.compute import Compute
from flawmap.engine.launch import Launch, environments, is_first_of_node, launched, refuse_other_number
from flawmap.engine.processes import HeardError, from_first, heard_by_all, tensors_from_first, together
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.runs.manifest import ManifestRow
from flawmap.train import refuse_differing_data
from flawmap.training_order import TrainingOrder
from flawmap_bench.objectives.ibot import half_hidden

VARIABLES = ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "3"}
SLURM = {"SLURM_NTASKS": "6", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "3", "SLURM_LOCALID": "2"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch):
    """Gives this process the variables of a launcher, and no others."""
    for name in [name for name in os.environ if name in VARIABLES or name.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def start(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return start


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (TORCHRUN, Launch(2, 4, "torchrun")),
        (TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, None),
        (SLURM, Launch(2, 3, "srun")),
        (SLURM | TORCHRUN, Launch(2, 4, "torchrun")),  # torchrun in a job of SLURM
        (SLURM | {"SLURM_JOB_NAME": "bash"}, None),  # a terminal, whose commands srun has not started
        ({"SLURM_NTASKS": "1"}, None),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "4"}, Launch(1, 4)),  # started by the first process
    ],
)
def test_a_launcher_is_known_by_its_variables(started, variables: dict[str, str], expected: Launch | None):
    started(**variables)
    assert launched() == expected


@pytest.mark.parametrize("variables", [{"SLURM_NTASKS": "5", "SLURM_NNODES": "2"}, {"SLURM_NTASKS": "4"}])
def test_slurm_has_to_say_how_many_processes_a_node_has(started, variables: dict[str, str]):
    started(**variables)
    with pytest.raises(UserError, match="SLURM has started") as caught:
        launched()
    assert "--ntasks-per-node" in caught.value.remedy


def test_one_process_of_each_node_speaks(started):
    started()
    assert is_first_of_node()
    started(**SLURM)
    assert not is_first_of_node()
    started(SLURM_LOCALID="0", LOCAL_RANK="1")
    assert not is_first_of_node()


def test_lightning_leaves_signals_and_requeueing_to_the_users_script(started):
    started()
    assert environments() == []
    started(**SLURM)
    (environment,) = environments()
    assert not environment.auto_requeue and environment.world_size() == 6


# ---- what is refused


@pytest.mark.parametrize(
    ("variables", "joined", "compute", "problem", "remedy"),
    [
        ({}, 1, Compute("cpu", "fp32", "", nodes=2), "not started on several machines", "torchrun --nnodes=2 --node-"),
        (
            TORCHRUN,
            8,
            Compute("cpu", "fp32", ""),
            "torchrun has started 8 processes",
            "compute.nodes=2 --set compute.d",
        ),
        (SLURM, 6, Compute("cpu", "fp32", "", nodes=3), "srun has started 6 processes, but", "compute.devices=3"),
        (TORCHRUN, 1, Compute("cpu", "fp32", "", 4, 2), "from Python", "flawmap train"),
    ],
)
def test_another_number_of_processes_than_the_recipe_asks_for_is_refused(
    started, monkeypatch: pytest.MonkeyPatch, variables: dict, joined: int, compute: Compute, problem: str, remedy: str
):
    started(**variables)
    monkeypatch.setattr(processes, "count", lambda: joined)
    with pytest.raises(UserError) as caught:
        refuse_other_number(load_recipe("paper"), compute)
    assert problem in caught.value.problem and remedy in caught.value.remedy


def test_the_recommended_method_is_not_trained_twice_by_a_launcher(started, monkeypatch: pytest.MonkeyPatch):
    started(**TORCHRUN)
    monkeypatch.setattr(processes, "count", lambda: 8)
    with pytest.raises(UserError, match="the method fused computes in one") as caught:
        refuse_other_number(Recipe(), Compute("cpu", "fp32", ""))
    assert "without torchrun" in caught.value.remedy


@pytest.mark.parametrize("setting", ["compute.nodes", "compute.devices"])
def test_methods_on_tokens_refuse_several_machines_and_devices(setting: str):
    with pytest.raises(UserError, match="the method fused computes on one device") as caught:
        load_recipe("standard", [f"{setting}=2"])
    assert (caught.value.place, caught.value.remedy.partition(";")[0]) == (setting, f"--set {setting}=1")


def test_a_batch_has_an_equal_share_for_every_device_of_every_machine():
    given = ["compute.nodes=2", "compute.devices=4"]
    assert load_recipe("paper", given).compute.nodes == 2
    with pytest.raises(UserError, match=r"batch_size is 12, not a multiple of compute.nodes x compute.devices 8"):
        load_recipe("paper", [*given, "pretrain.batch_size=12"])


def test_several_machines_without_a_launcher_are_refused_before_there_is_a_run(
    started, good_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    started()
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(good_folder), "--recipe", "paper", "--set", "compute.nodes=2", "--device", "cpu"]) == 2
    assert "not started on several machines" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


# ---- what the first process tells the others


def test_a_process_alone_does_its_work_and_raises_its_own_errors():
    assert from_first(lambda: b"content") == b"content" and together(lambda: 3) == 3
    tensors = {"a": torch.arange(3)}
    assert torch.equal(tensors_from_first(tensors)["a"], tensors["a"])
    with pytest.raises(RuntimeError, match="gloo"), heard_by_all():
        raise RuntimeError("gloo: connection closed by peer")


@pytest.mark.parametrize(
    "text",
    [
        "[/pytorch/gloo/pair.cc:1] Connection closed by peer [10.77.0.2]:4",
        "Broken pipe",
        "Application timeout caused pair closure",
    ],
)
def test_a_torn_connection_means_a_lost_process(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.delenv("MASTER_ADDR", raising=False)  # nobody has left a word
    with pytest.raises(HeardError, match="was lost") as caught, heard_by_all():
        raise RuntimeError(text)
    assert caught.value.place == ("machine 10.77.0.2" if "10.77" in text else "")
    assert "--resume" in caught.value.remedy


def test_an_order_reaches_the_other_processes_as_it_was(good_folder: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = load_recipe("paper", ["compute.nodes=2", "detect.sizes_px=[224, 448]"])
    leave_out = LeaveOut(("a.png", "b.png"), "list.csv")
    order = TrainingOrder([str(good_folder)], recipe, Path("run"), "cpu", "pretrain", True, "flawmap train", True)
    order = replace(order, leave_out=leave_out, loggers=("mlflow",))
    assert TrainingOrder.from_json(order.to_json()) == replace(order, run_path=None, command="", loggers=())
    monkeypatch.chdir(good_folder.parent)
    beside = TrainingOrder.from_json(replace(order, location=good_folder.name, leave_out=None).to_json())
    assert beside.location == [str(good_folder)] and beside.leave_out is None


def test_the_image_that_differs_from_the_first_processs_is_named(monkeypatch: pytest.MonkeyPatch):
    rows = [ManifestRow(f"{number}.png", "00", "train", 8, 8, "11") for number in range(3)]
    refuse_differing_data(rows)
    others = json.dumps([["0.png", "00", "train"], ["1.png", "99", "train"]]).encode()
    monkeypatch.setattr("flawmap.train.from_first", lambda make: others)
    with pytest.raises(UserError, match="2 images are not what the first process has found") as caught:
        refuse_differing_data(rows)
    assert caught.value.place == "1.png"


# ---- random masks


def test_the_processes_rows_of_a_random_mask_are_those_of_one_process(pretrain_settings, tiny_encoder):
    from flawmap.paper.pretrain import PretrainModule

    module = PretrainModule(tiny_encoder(), pretrain_settings(), 4, 2, seed=0)
    views, rows, columns = torch.zeros(12, 3, 64, 64), 4, 4

    def mask_of(own: torch.Tensor, rank: int, count: int) -> torch.Tensor:
        module._trainer = SimpleNamespace(global_rank=rank, world_size=count, global_step=0)  # pyright: ignore
        return module.random_mask(own, lambda crops, numbers: half_hidden(crops, rows, columns, numbers))

    joint = mask_of(views, 0, 1)  # (12, 16), view by view
    assert joint.any(dim=1).sum() == 6
    for rank in range(3):
        assert torch.equal(mask_of(views[rank::3], rank, 3), joint[rank::3])
