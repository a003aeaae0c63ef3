"""Runs one stage with Lightning: checkpoints, resume, progress, and results that equal runs share."""

import json
import logging
import os
import secrets
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

from flawmap.engine.checkpoints import AtomicCheckpointIO, SaveNowAndThen, read_tensors, write_tensors
from flawmap.engine.compute import Compute
from flawmap.engine.failures import in_users_words
from flawmap.engine.progress import LogFile, StageProgress, say
from flawmap.engine.sampling import BatchOrder
from flawmap.reproducibility import atomic_write_text, file_sha256, numpy_generator
from flawmap.runs.run_folder import RunFolder

EXPECTED_WARNINGS = (
    ".*module.* in eval mode at the start of training",  # the teacher
    ".*does not have many workers",  # decided in sampling.loader_workers
    ".*resuming from a checkpoint that ended before the epoch ended",  # BatchOrder goes on at the step
    ".*isinstance.treespec, LeafSpec.* is deprecated",  # Lightning 2.6's own use of torch
)


@dataclass(frozen=True)
class Stage:
    """One stage of one run.

    Attributes:
        name: ``pretrain``, ``finetune``, ``memory``, ``residual`` or ``expectation``.
        key: hash of all that determines the result; equal keys share results.
        total_steps: optimizer steps.
        steps_per_epoch: of them.
        batch_size: images per step, of all processes together.
        image_size_px: their side.
        seed: of the run.
        describe: turns a log record into the words that are printed.
    """

    name: str
    key: str
    total_steps: int
    steps_per_epoch: int
    batch_size: int
    image_size_px: int
    seed: int
    describe: Callable[[dict[str, float]], str]


class QuietLightning(lightning.Callback):
    """Silences what our own progress says better, in spawned processes, too."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Called in every process before it trains."""
        _lower_its_voice()
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)


def _lower_its_voice() -> None:
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators"):
        logging.getLogger(name).setLevel(logging.WARNING)  # greetings and tips


class StepsByNumber(lightning.Callback):
    """Every step follows from its number, so that a resumed stage equals an uninterrupted one.

    Stochastic depth draws from torch's own generator, which is set by (seed, stage, step, rank); the batches go on
    from the checkpoint's step. To Lightning a stage is one long epoch, because its own counting of epochs does not
    survive a resume by steps.
    """

    def __init__(self, stage: Stage, order: BatchOrder) -> None:
        self._stage, self._order = stage, order

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Called before the loader's iterator, and with it any worker, is made."""
        self._order.first_step = checkpoint["global_step"]

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch for this step."""
        generator = numpy_generator(self._stage.seed, self._stage.name, trainer.global_step, trainer.global_rank)
        torch.manual_seed(int(generator.integers(2**62)))


def run_stage(
    module: lightning.LightningModule,
    loader: DataLoader,
    stage: Stage,
    run: RunFolder,
    compute: Compute,
    save_every_seconds: float,
) -> None:
    """Train ``module`` to the end of its stage, from the run's checkpoint where there is one.

    Raises:
        UserError: the checkpoint cannot be used, the memory is too small, or what the module itself finds wrong.
    """
    checkpoint = run.checkpoint(stage.name)
    assert isinstance(loader.batch_sampler, BatchOrder)
    _lower_its_voice()
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
        plugins=[AtomicCheckpointIO(stage.key)],
        callbacks=[
            QuietLightning(),
            StepsByNumber(stage, loader.batch_sampler),
            StageProgress(stage.name, LogFile(run.log), stage.describe, stage.steps_per_epoch),
            SaveNowAndThen(checkpoint, save_every_seconds),
        ],
    )
    module.train()
    explaining = in_users_words(stage.name, stage.batch_size, stage.image_size_px, compute.devices)
    start_from = str(checkpoint) if checkpoint.is_file() else None
    try:
        with explaining, warnings.catch_warnings():  # to which QuietLightning adds
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


def keep_result(run: RunFolder, stage: Stage, tensors: dict[str, Tensor]) -> None:
    """Store a stage's result in the run and for other runs, then drop the state that was kept for resuming."""
    path = run.stage_output(stage.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors)
    last = LogFile(run.log).last(stage.name)  # the module need not have made a step in this process
    about = {"stage": stage.name, "key": stage.key, "steps": stage.total_steps, "seed": stage.seed, "last": last}
    about["sha256"] = file_sha256(path)
    # written last: a result without it does not count as finished
    atomic_write_text(path.with_suffix(".json"), json.dumps(about, indent=2))
    _share(path, run.shared_stage(stage.name, stage.key))
    checkpoint = run.checkpoint(stage.name)
    for state in (checkpoint, Path(f"{checkpoint}.part")):
        state.unlink(missing_ok=True)


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
        temporary = target.with_suffix(f"{suffix}.{secrets.token_hex(4)}.part")  # other runs may share at this moment
        try:
            os.link(source.with_suffix(suffix), temporary)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source.with_suffix(suffix), temporary)
        os.replace(temporary, target.with_suffix(suffix))
        temporary.unlink(missing_ok=True)  # replacing a file by another name of itself does nothing
