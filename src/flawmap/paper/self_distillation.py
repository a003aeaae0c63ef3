"""The training loop that every objective of stage 1 shares: student and teacher, rates, watch for a collapse.

An objective is a subclass with its networks in ``__init__`` and its loss in ``loss_of``. The paper's is in
``pretrain.py``; other packages register theirs by name, see :mod:`flawmap.paper.objectives`.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import lightning
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flawmap.engine.optimisation import check_finite, clip_each_gradient, decay_groups, set_rates
from flawmap.engine.schedules import WarmupCosine, cosine
from flawmap.paper.clusters import gather_batch
from flawmap.paper.collapse_watch import CollapseWatch
from flawmap.paper.projection import Prototypes
from flawmap.recipe.settings import PretrainSettings
from flawmap.reproducibility import numpy_generator
from flawmap.vit.encoder import Encoder
from flawmap.vit.inputs import normalise

M = TypeVar("M", bound=nn.Module)


class Objective(NamedTuple):
    """The loss of one step, and what is watched to detect a collapse.

    Attributes:
        loss: with its gradient.
        targets: (rows, K) what the student has to predict, for the teacher's views.
        spread: how much the teacher's scores differ between images, see :func:`spread_over_batch`.
    """

    loss: Tensor
    targets: Tensor
    spread: Tensor


class SelfDistillation(lightning.LightningModule):
    """A student learns from views; a teacher, where there is one, is its moving average.

    Args:
        encoder: initial encoder; becomes the student's.
        settings: of stage 1.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
        seed: of the run; random masks are drawn from (seed, step).
    """

    def __init__(
        self, encoder: Encoder, settings: PretrainSettings, total_steps: int, steps_per_epoch: int, seed: int
    ) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.student_encoder = encoder
        peak = settings.learning_rate * (settings.batch_size / 256 if settings.learning_rate_scaling == "linear" else 1)
        self.learning_rate = WarmupCosine.of_stage(settings, peak, steps_per_epoch, total_steps)
        self.record: dict[str, float] = {}
        self.watch: CollapseWatch

    # ---- what an objective defines

    @abstractmethod
    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """The loss of one batch of views, see :class:`flawmap.simulators.dataset.ViewsDataset`."""

    @abstractmethod
    def learners(self) -> list[nn.Module]:
        """Networks that gradients train, the encoder first."""

    def prototypes_of(self) -> list[nn.Parameter]:
        """Parameters that are trained without weight decay."""
        return []

    def followers(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pairs (teacher, student): each teacher is the moving average of its student. Empty without a teacher."""
        return []

    def frozen(self) -> list[nn.Module]:
        """Networks that take no gradient and stay in evaluation mode."""
        return [teacher for teacher, _ in self.followers()]

    @property
    def result_encoder(self) -> Encoder:
        """The result of the stage: the teacher's encoder (DINO evaluates the teacher), or the student's without one."""
        encoder = next((teacher for teacher, _ in self.followers()), self.student_encoder)
        assert isinstance(encoder, Encoder)
        return encoder

    def watch_for(self, num_outputs: int, **options: Any) -> CollapseWatch:
        """A watch over ``num_outputs`` classes; it waits for the warm-up and for 100 steps, or half of training."""
        patience = max(self.learning_rate.warmup, min(100, self.total_steps // 2))
        return CollapseWatch(num_outputs, warmup_steps=patience, **options)

    # ---- a step

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """The objective on one mini-batch of views."""
        loss, targets, spread = self.loss_of(batch)
        check_finite(loss, "pretrain", self.global_step)
        self.record = self.watch.observe(self.global_step, loss, targets, spread)
        return loss

    def random_mask(self, views: Tensor, draw: Callable[[int, torch.Generator], Tensor]) -> Bool[Tensor, "rows n"]:
        """This process's rows of a mask that is drawn for the views of all processes, so that several mask as one does.

        Args:
            views: view by view, as many of each image as of every other.
            draw: makes a mask of so many rows; its numbers depend on seed, step and number of views.
        """
        # Each process has every count-th image, see BatchOrder; and so, view by view, every count-th row.
        rank, count = (self.trainer.global_rank, self.trainer.world_size) if self._trainer is not None else (0, 1)
        numbers = numpy_generator(self.seed, "mask", self.global_step, len(views) * count, 0)
        generator = torch.Generator(views.device).manual_seed(int(numbers.integers(2**62)))
        return draw(len(views) * count, generator)[rank::count]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; biases, norms and prototypes are not decayed."""
        groups = decay_groups(self.learners(), self.settings.weight_decay)
        groups[1]["params"] += self.prototypes_of()
        return torch.optim.AdamW(groups, lr=self.learning_rate.peak)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Rates and weight decay of this step (DINO: decay rises on a cosine)."""
        step = self.global_step
        decay = cosine(self.settings.weight_decay, self.settings.final_weight_decay, step, self.total_steps)
        set_rates(self.optimizers(), self.learning_rate.at(step), decay)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip each parameter's gradient on its own, as DINO does."""
        clip_each_gradient(optimizer, self.settings.clip_gradient_norm)

    def on_train_batch_end(self, outputs: object, batch: dict[str, Tensor], batch_idx: int) -> None:
        """After the gradient step: prototypes back on the sphere, then the teacher follows the student."""
        for module in self.children():
            if isinstance(module, Prototypes):
                module.normalize()
        step = min(self.global_step - 1, self.total_steps - 1)
        momentum = cosine(self.settings.teacher_momentum, 1.0, step, self.total_steps)
        for teacher, student in self.followers():
            update_teacher(teacher, student, momentum)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is neither a parameter nor a buffer."""
        checkpoint["collapse_watch"] = self.watch.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what :meth:`on_save_checkpoint` kept."""
        self.watch.load_state(checkpoint["collapse_watch"])

    def train(self, mode: bool = True) -> "SelfDistillation":
        """The frozen networks stay in evaluation mode: no stochastic depth for the teacher."""
        super().train(mode)
        for network in self.frozen():
            network.eval()
        return self


def local_views(batch: dict[str, Tensor]) -> Float[Tensor, "many 3 l l"]:
    """The local crops of all images, normalised, view by view, as one large batch: they have the same size."""
    return normalise(batch["student_locals"].transpose(0, 1).flatten(0, 1))


def by_view(rows: Float[Tensor, "rows d"], batch: dict[str, Tensor]) -> Float[Tensor, "v b d"]:
    """Rows of views, one view of all images after the other as in :func:`local_views`, by view and image."""
    return rows.unflatten(0, (-1, len(batch["teacher"])))


@torch.no_grad()
def spread_over_batch(scores: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Deviation of each score over the images of all processes, on average: near 0 all images look the same."""
    return gather_batch(scores).std(dim=0).mean()


def frozen_copy(module: M) -> M:
    """A copy in evaluation mode that takes no gradient."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """theta_t <- m theta_t + (1 - m) theta_s, parameters only."""
    for of_teacher, of_student in zip(teacher.parameters(), student.parameters(), strict=True):
        of_teacher.lerp_(of_student, 1 - momentum)
