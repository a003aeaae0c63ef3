"""Trains the module of one stage with Lightning: steps by number, checkpoints, progress."""

import logging
import signal
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch.utils.data import Dataset

from flawmap.engine.checkpoints import AtomicCheckpointIO, SaveNowAndThen
from flawmap.engine.launch import environments
from flawmap.engine.loggers import NO_LOGGERS, Loggers
from flawmap.engine.processes import count, from_first
from flawmap.engine.sampling import BatchOrder, batch_that_fits, loader_workers, stage_loader
from flawmap.engine.schedules import steps_of_stage
from flawmap.engine.stage import Stage
from flawmap.engine.step_log import StepLog
from flawmap.reproducibility import numpy_generator
from flawmap.runs.training_log import LogFile

EXPECTED_WARNINGS = (
    ".*module.* in eval mode at the start of training",  # the teacher
    ".*does not have many workers",  # decided in sampling.loader_workers
    ".*resuming from a checkpoint that ended before the epoch ended",  # BatchOrder continues at the step
    ".*isinstance.treespec, LeafSpec.* is deprecated",  # Lightning 2.6's own use of torch
)


@dataclass(frozen=True)
class TrainingPlan:
    """How long a stage trains.

    Attributes:
        total_steps: optimizer steps.
        steps_per_epoch: of them; the last incomplete batch of an epoch is dropped.
        batch_size: images per step, of all processes together.
    """

    total_steps: int
    steps_per_epoch: int
    batch_size: int

    @classmethod
    def of(
        cls, num_images: int, batch_size: int, processes: int, epochs: int | None, steps: int | None
    ) -> "TrainingPlan":
        """The plan of a stage whose length is given in epochs or in steps.

        Raises:
            UserError: fewer images than processes, or fewer than two.
        """
        batch_size = batch_that_fits(batch_size, num_images, processes)
        return cls(*steps_of_stage(epochs, steps, num_images, batch_size), batch_size)


class QuietLightning(lightning.Callback):
    """Silences what our own progress says better, in spawned processes as well."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Called in every process before it trains."""
        quiet_loggers()
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)


def quiet_loggers() -> None:
    """Silence Lightning's greetings and tips."""
    parts = "pytorch.utilities.rank_zero", "pytorch.accelerators", "fabric.utilities.rank_zero"
    for name in (*parts, "fabric.utilities.distributed"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)


class StepsByNumber(lightning.Callback):
    """Makes every step depend on its number alone, so that a resumed stage equals an uninterrupted one.

    Stochastic depth draws from torch's own generator, which is seeded by (seed, stage, step, rank); the batches
    continue at the checkpoint's step. To Lightning a stage is one long epoch, because its own count of epochs does not
    survive a resume by steps.
    """

    def __init__(self, stage: Stage, order: BatchOrder) -> None:
        self._stage, self._order = stage, order

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Start at the checkpoint's step; called before the loader's iterator, and with it any worker, is made."""
        self._order.first_step = checkpoint["global_step"]

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch for this step."""
        seed = self._stage.context.seed
        generator = numpy_generator(seed, self._stage.name, trainer.global_step, trainer.global_rank)
        torch.manual_seed(int(generator.integers(2**62)))


class StageProgress(lightning.Callback):
    """Logs the module's ``record`` of every step; see :class:`flawmap.engine.step_log.StepLog`.

    Args:
        stage: ``pretrain`` or ``finetune``.
        log: where records go.
        describe: turns a record into the words that are printed.
        steps_per_epoch: for the epoch's number in the log.
        loggers: get the records, too.
    """

    def __init__(
        self,
        stage: str,
        log: LogFile,
        describe: Callable[[Mapping[str, float]], str],
        steps_per_epoch: int,
        loggers: Loggers = NO_LOGGERS,
    ) -> None:
        self._stage, self._log, self._describe = stage, log, describe
        self._steps_per_epoch, self._loggers = steps_per_epoch, loggers
        self._steps: StepLog | None = None  # of the first process alone

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and forget what an interrupted run logged beyond its checkpoint."""
        if trainer.is_global_zero:
            total, first = int(trainer.max_steps), trainer.global_step
            epoch = self._steps_per_epoch
            self._steps = StepLog(self._stage, self._log, total, self._describe, first, epoch, self._loggers)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log this step."""
        if self._steps is not None:
            record: dict[str, float] = getattr(pl_module, "record", {})
            self._steps.write(trainer.global_step - 1, record, trainer.optimizers[0].param_groups[0]["lr"])


def train(
    module: lightning.LightningModule,
    dataset: Dataset,
    num_images: int,
    plan: TrainingPlan,
    stage: Stage,
    describe: Callable[[Mapping[str, float]], str],
) -> None:
    """Train ``module`` to the end of its stage, from the run's checkpoint where there is one.

    Several processes that a launcher has started share the batches. A process that is alone starts others where it has
    several devices; they begin from what it sends them and run none of its own code, so it may be a notebook.

    Args:
        module: its ``record`` of every step is logged.
        dataset: items by (epoch, index).
        num_images: in the data set.
        plan: how many steps.
        stage: its context says where checkpoints and log go.
        describe: turns a record into the words that are printed.

    Raises:
        UserError: the checkpoint cannot be used, or the module finds a problem.
    """
    context = stage.context
    run, compute = context.run, context.compute
    workers = loader_workers(context.workers, compute)
    loader = stage_loader(
        dataset, num_images, plan.batch_size, plan.total_steps, context.seed, workers, compute.processes
    )
    assert isinstance(loader.batch_sampler, BatchOrder)
    checkpoint = run.checkpoint(stage.name)
    is_resumed = from_first(lambda: b"1" if checkpoint.is_file() else b"") == b"1"
    trainer = _trainer(plan, stage, loader.batch_sampler, describe)
    module.train()
    start_from = str(checkpoint) if is_resumed else None
    try:
        with warnings.catch_warnings():  # QuietLightning adds filters
            trainer.fit(module, loader, ckpt_path=start_from, weights_only=True)
    except SystemExit as stopped:  # how Lightning ends on Ctrl+C, with further Ctrl+C switched off
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from stopped


def _trainer(
    plan: TrainingPlan, stage: Stage, order: BatchOrder, describe: Callable[[Mapping[str, float]], str]
) -> lightning.Trainer:
    context = stage.context
    run, compute = context.run, context.compute
    quiet_loggers()
    return lightning.Trainer(
        accelerator=compute.device,
        devices=compute.devices,
        num_nodes=compute.nodes,
        strategy="ddp" if count() > 1 else "ddp_spawn" if compute.devices > 1 else "auto",
        precision=compute.lightning_precision,
        max_steps=plan.total_steps,
        max_epochs=-1,
        default_root_dir=run.path,  # where Lightning looks for checkpoints of SLURM's
        logger=list(context.loggers.of_lightning),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[AtomicCheckpointIO(stage.key), *environments()],
        callbacks=[
            QuietLightning(),
            StepsByNumber(stage, order),
            StageProgress(stage.name, LogFile(run.log), describe, plan.steps_per_epoch, context.loggers),
            SaveNowAndThen(run.checkpoint(stage.name), context.save_every_seconds),
        ],
    )
