"""Runs one stage with Lightning: checkpoints, resume, progress, and results that equal runs share."""

import json
import logging
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from flawmap.reproducibility import atomic_write_text, file_sha256, numpy_generator
from flawmap.training.checkpoints import AtomicCheckpointIO, SaveEachEpoch, read_tensors, write_tensors
from flawmap.training.device import Compute
from flawmap.training.progress import LogFile, StageProgress, say
from flawmap.training.run_folder import RunFolder


@dataclass(frozen=True)
class Stage:
    """One stage of one run.

    Attributes:
        name: ``pretrain`` or ``finetune``.
        key: hash of all that determines the result; equal keys share results.
        total_steps: optimizer steps.
        seed: of the run.
        describe: turns a log record into the words that are printed.
    """

    name: str
    key: str
    total_steps: int
    seed: int
    describe: Callable[[dict[str, float]], str]


class SeedEachEpoch(lightning.Callback):
    """Stochastic depth draws from torch's own generator: set it by (seed, stage, epoch, rank) so that a resumed
    epoch equals an uninterrupted one."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Seed torch for this epoch."""
        generator = numpy_generator(self._stage.seed, self._stage.name, trainer.current_epoch, trainer.global_rank)
        torch.manual_seed(int(generator.integers(2**62)))


def run_stage(
    module: lightning.LightningModule,
    loader: DataLoader,
    stage: Stage,
    run: RunFolder,
    compute: Compute,
    save_every_seconds: float,
) -> None:
    """Train ``module`` to the end of its stage, from the run's checkpoint where there is one."""
    checkpoint = run.checkpoint(stage.name)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators"):
        logging.getLogger(name).setLevel(logging.WARNING)  # its greetings and tips; our own progress says enough
    trainer = lightning.Trainer(
        accelerator=compute.device,
        devices=compute.devices,
        strategy="ddp_spawn" if compute.devices > 1 else "auto",
        precision=compute.lightning_precision,
        max_steps=stage.total_steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            SeedEachEpoch(stage),
            StageProgress(stage.name, LogFile(run.log), stage.describe),
            SaveEachEpoch(checkpoint, save_every_seconds),
        ],
    )
    module.train()
    start_from = str(checkpoint) if checkpoint.is_file() else None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*module.* in eval mode at the start of training")  # the teacher
            warnings.filterwarnings("ignore", message=".*does not have many workers")  # decided in train._workers
            trainer.fit(module, loader, ckpt_path=start_from, weights_only=True)
    except SystemExit as stopped:  # how Lightning ends on Ctrl+C, with further Ctrl+C switched off
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from stopped


def finished_stage(run: RunFolder, stage: Stage) -> dict[str, Tensor] | None:
    """The result of a stage that this run, or an equal one beside it, has finished; None where there is none."""
    for path, words in (
        (run.stage_output(stage.name), "done already"),
        (run.shared_stage(stage.name, stage.key), "equal to an earlier run's, reused"),
    ):
        if _is_result_of(path, stage.key):
            say(stage.name, f"{words}: {path}")
            if path != run.stage_output(stage.name):
                _share(path, run.stage_output(stage.name))
            return read_tensors(path)
    return None


def keep_result(run: RunFolder, stage: Stage, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Store a stage's result in the run and for other runs, then drop the state that was kept for resuming."""
    path = run.stage_output(stage.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors)
    about = {"stage": stage.name, "key": stage.key, "steps": stage.total_steps, "seed": stage.seed, "last": record}
    about["sha256"] = file_sha256(path)
    # written last: a result without it does not count as finished
    atomic_write_text(path.with_suffix(".json"), json.dumps(about, indent=2))
    _share(path, run.shared_stage(stage.name, stage.key))
    run.checkpoint(stage.name).unlink(missing_ok=True)


def _is_result_of(path: Path, key: str) -> bool:
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return about.get("key") == key and path.is_file() and about.get("sha256") == file_sha256(path)


def _share(source: Path, target: Path) -> None:
    """Make a finished result appear at ``target`` too: a second name for the same bytes, or a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".safetensors", ".json"):
        temporary = target.with_suffix(f"{suffix}.part")
        temporary.unlink(missing_ok=True)
        try:
            os.link(source.with_suffix(suffix), temporary)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source.with_suffix(suffix), temporary)
        os.replace(temporary, target.with_suffix(suffix))
