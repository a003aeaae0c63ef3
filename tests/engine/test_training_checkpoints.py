"""Checkpoints: whole or absent, of their own stage, and read without executing anything. Failures in words."""

import os
import pickle
import re
from pathlib import Path

import lightning
import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from flawmap.engine.checkpoints import AtomicCheckpointIO, SaveNowAndThen
from flawmap.engine.failures import user_error
from flawmap.engine.tensor_files import read_tensors, write_tensors
from flawmap.errors import UserError

pytestmark = pytest.mark.usefixtures("small_heads")

IO = AtomicCheckpointIO("key-of-the-stage")


def test_what_is_saved_is_loaded(tmp_path: Path):
    state = {"global_step": 7, "state_dict": {"w": torch.arange(6.0).reshape(2, 3)}, "callbacks": {"a": [1, None]}}
    IO.save_checkpoint(state, tmp_path / "deep" / "a.ckpt")
    loaded = IO.load_checkpoint(tmp_path / "deep" / "a.ckpt")
    assert torch.equal(loaded["state_dict"].pop("w"), state["state_dict"]["w"])
    assert loaded == {"global_step": 7, "state_dict": {}, "callbacks": {"a": [1, None]}}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.ckpt"]


def test_killed_between_write_and_rename_the_old_file_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.ckpt"
    IO.save_checkpoint({"global_step": 1}, path)

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("flawmap.engine.checkpoints.os.replace", killed)
        with pytest.raises(SystemExit):
            IO.save_checkpoint({"global_step": 2}, path)
    assert torch.load(f"{path}.part")["global_step"] == 2  # it got as far as that
    assert IO.load_checkpoint(path) == {"global_step": 1}
    IO.save_checkpoint({"global_step": 3}, path)  # what is left over is in nobody's way
    assert IO.load_checkpoint(path) == {"global_step": 3} and not Path(f"{path}.part").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.ckpt"
    IO.save_checkpoint({"global_step": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        IO.save_checkpoint({"cannot be pickled": lambda: None}, path)
    assert IO.load_checkpoint(path) == {"global_step": 1}


@pytest.mark.parametrize("damage", ["empty", "torn", "noise", "absent"])
def test_a_damaged_checkpoint_says_so(tmp_path: Path, damage: str):
    path = tmp_path / "a.ckpt"
    IO.save_checkpoint({"w": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "torn": whole[: len(whole) // 2], "noise": os.urandom(2000)}[damage])
    with pytest.raises(UserError) as caught:
        IO.load_checkpoint(path)
    assert re.fullmatch(r"the checkpoint cannot be read: \S.*", caught.value.problem)
    assert caught.value.place == str(path)
    assert caught.value.remedy == "delete this file to start the stage again"


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_checkpoint_that_would_execute_something_is_refused_and_nothing_is_executed(tmp_path: Path):
    proof = tmp_path / "executed"
    torch.save({"global_step": 1, "payload": Malicious(proof), "stage_key": "key-of-the-stage"}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="the checkpoint cannot be read"):
        IO.load_checkpoint(tmp_path / "a.ckpt", weights_only=False)  # whatever Lightning asks for
    assert not proof.exists()
    torch.load(tmp_path / "a.ckpt", weights_only=False)
    assert proof.is_dir()  # it would have worked


@pytest.mark.parametrize("content", [{"global_step": 1}, {"stage_key": "another"}, [1, 2]])
def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError) as caught:
        IO.load_checkpoint(tmp_path / "a.ckpt")
    assert caught.value.problem == "the checkpoint was made from other data, weights or settings, or on another device"
    assert caught.value.place == str(tmp_path / "a.ckpt")
    assert "delete this file" in caught.value.remedy


class FakeTrainer(lightning.Trainer):
    """Counts what is saved; ``of_rank_0`` is what the first process says, where there are several."""

    def __init__(self, of_rank_0: bool | None = None) -> None:
        self.saved, self.of_rank_0 = 0, of_rank_0

    @property
    def strategy(self) -> "FakeTrainer":
        return self

    def broadcast(self, own: bool) -> bool:
        return own if self.of_rank_0 is None else self.of_rank_0

    def save_checkpoint(self, filepath: Path, weights_only: bool | None = None) -> None:
        assert weights_only is False
        self.saved += 1


def before_a_step(saver: SaveNowAndThen, trainer: FakeTrainer) -> int:
    saver.on_train_batch_start(trainer, lightning.LightningModule(), None, 0)
    return trainer.saved


def test_saving_waits_for_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    clock = [100.0]
    monkeypatch.setattr("flawmap.engine.checkpoints.time.monotonic", lambda: clock[0])
    saver, trainer, counts = SaveNowAndThen(tmp_path / "a.ckpt", every_seconds=30.0), FakeTrainer(), []
    for now in (100.0, 129.0, 130.0, 131.0, 159.9, 160.0, 161.0):
        clock[0] = now
        counts.append(before_a_step(saver, trainer))
    assert counts == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(("own_interval", "of_rank_0", "saved"), [(0.0, False, 0), (1e9, True, 1)])
def test_all_processes_save_when_the_first_one_does(tmp_path: Path, own_interval: float, of_rank_0: bool, saved: int):
    """Saving waits for all processes: with clocks of their own they would wait for each other for ever."""
    assert before_a_step(SaveNowAndThen(tmp_path / "a.ckpt", own_interval), FakeTrainer(of_rank_0)) == saved


# ---- tensors


def test_tensors_are_written_as_they_are_and_read_back(tmp_path: Path):
    tensors = {"a": torch.randn(3, 4).t(), "b": torch.zeros(2, requires_grad=True), "c": torch.tensor(3)}
    write_tensors(tmp_path / "a.safetensors", tensors)
    loaded = read_tensors(tmp_path / "a.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) and not loaded[name].requires_grad for name in tensors)


def test_damaged_tensors_say_so(tmp_path: Path):
    (tmp_path / "a.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(UserError) as caught:
        read_tensors(tmp_path / "a.safetensors")
    assert caught.value.problem.startswith("the file is damaged: ")
    assert caught.value.place == str(tmp_path / "a.safetensors") and caught.value.remedy == "delete it and run again"


# ---- failures in words


def real_allocation_failure() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46, dtype=torch.float64)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        real_allocation_failure,
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        lambda: RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB)"),
        lambda: MemoryError(),
        lambda: ProcessRaisedException("Traceback:\ntorch.OutOfMemoryError: CUDA out of memory.", 0, 1),
    ],
)
def test_too_little_memory_names_stage_batch_and_size(error):
    mistake = user_error(error(), "finetune", batch_size=16, image_size_px=224)
    assert mistake.problem == "out of memory with batches of 16 images of 224 px"
    assert mistake.place == "stage finetune"
    assert mistake.remedy == "--set finetune.batch_size=8, or --set finetune.image_size_px=SMALLER"


@pytest.mark.parametrize(
    ("stage", "batch_size", "devices", "remedy"),
    [
        ("pretrain", 16, 1, "--set pretrain.batch_size=8, or --set data.image_size_px=SMALLER"),
        ("pretrain", 3, 1, "--set data.image_size_px=SMALLER"),  # no fewer than two
        ("finetune", 2, 1, "--set finetune.batch_size=1, or --set finetune.image_size_px=SMALLER"),
        ("finetune", 1, 1, "--set finetune.image_size_px=SMALLER"),
        ("finetune", 12, 4, "--set finetune.batch_size=4, or --set finetune.image_size_px=SMALLER"),
    ],
)
def test_the_batch_size_that_is_advised_can_be_used(stage: str, batch_size: int, devices: int, remedy: str):
    assert user_error(MemoryError(), stage, batch_size, 224, devices).remedy == remedy


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), KeyError(1)]
)
def test_other_errors_are_not_explained_away(error: Exception):
    assert user_error(error, "finetune", 16, 224) is None


@pytest.mark.parametrize(
    "mistake", [UserError("the loss is nan at step 3", "stage pretrain", "lower it;\nor not"), UserError("bad", "", "")]
)
def test_a_users_error_in_a_spawned_process_is_the_users_again(mistake: UserError):
    text = "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  File x\n"
    error = ProcessRaisedException(f"{text}flawmap.errors.UserError: {mistake}\n", 1, 123)
    found = user_error(error, "pretrain", 16, 224)
    assert (found.problem, found.place, found.remedy) == (mistake.problem, mistake.place, mistake.remedy)
