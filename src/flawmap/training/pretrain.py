"""Stage 1: the student, seeing a masked view, agrees with the teacher's clusters (Equations 1 to 4, Fig. 2)."""

import copy
from typing import Any, TypeVar

import lightning
import torch
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.augment.patch_masking import (
    attention_patch_mask,
    block_patch_mask,
    kept_patches,
    most_attended_patch_mask,
    random_patch_mask,
)
from flawmap.models.encoder import Encoder, mean_cls_attention
from flawmap.models.projection import BOTTLENECK_DIM, ProjectionHead, Prototypes
from flawmap.objectives.clustering import cluster_agreement_loss, gather_batch, sinkhorn
from flawmap.recipe import PretrainSettings
from flawmap.reproducibility import numpy_generator
from flawmap.training.collapse_watch import CollapseWatch
from flawmap.training.datasets import normalise
from flawmap.training.optimisation import check_finite, clip_each_gradient, decay_groups, set_rates
from flawmap.training.schedules import WarmupCosine, cosine

CENTER_MOMENTUM = 0.9
M = TypeVar("M", bound=nn.Module)


class PretrainModule(lightning.LightningModule):
    """One training step follows the paper: teacher targets, APMask, student predictions, agreement.

    Args:
        encoder: initial encoder; becomes the student's.
        settings: of stage 1.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
        seed: of the run; random masks are drawn from (seed, step).

    The result of the stage is ``teacher_encoder`` (DINO evaluates the teacher).
    """

    center: Tensor  # (256,) running mean of the teacher's outputs; zero unless ``center_outputs``

    def __init__(
        self, encoder: Encoder, settings: PretrainSettings, total_steps: int, steps_per_epoch: int, seed: int
    ) -> None:
        super().__init__()
        self.settings, self.total_steps, self.seed = settings, total_steps, seed
        self.student_encoder = encoder
        self.student_head = ProjectionHead(encoder.embed_dim)
        self.teacher_encoder = frozen_copy(encoder)
        self.teacher_head = frozen_copy(self.student_head)
        self.initial_encoder = frozen_copy(encoder) if settings.masking.attention_from == "initial" else None
        self.prototypes = Prototypes(settings.prototypes)
        self.register_buffer("center", torch.zeros(BOTTLENECK_DIM))
        peak = settings.learning_rate * (settings.batch_size / 256 if settings.learning_rate_scaling == "linear" else 1)
        self.learning_rate = WarmupCosine(
            min(settings.warmup_learning_rate, peak),
            peak,
            min(settings.final_learning_rate, peak),
            round(settings.warmup_epochs * steps_per_epoch),
            total_steps,
        )
        patience = max(self.learning_rate.warmup, min(100, total_steps // 2))
        self.watch = CollapseWatch(settings.prototypes, warmup_steps=patience)
        self.record: dict[str, float] = {}

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Equation 1 on one mini-batch of views."""
        settings = self.settings
        targets, spread = self.pseudo_labels(normalise(batch["teacher"]))
        scores = [self.student_scores(normalise(batch["student_global"]), masked=True)]
        local_views = batch["student_locals"].transpose(0, 1)  # (V-1, b, 3, l, l)
        if len(local_views):
            # all local views are one large batch: they have the same size and the same number of dropped patches
            flat = normalise(local_views.flatten(0, 1))
            local_scores = self.student_scores(flat, masked=settings.masking.mask_local_views)
            scores += local_scores.unflatten(0, local_views.shape[:2]).unbind(0)
        loss = cluster_agreement_loss(targets, torch.stack(scores), settings.temperature)
        check_finite(loss, "pretrain", self.global_step)
        self.record = self.watch.observe(self.global_step, loss, targets, spread)
        return loss

    @torch.no_grad()
    def pseudo_labels(self, teacher_views: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b k"], Tensor]:
        """y_t = Sinkhorn(z_t . C) of the unmasked teacher view, and the spread of its scores over the batch."""
        cls = self.teacher_encoder(teacher_views).cls
        projected = self.teacher_head.layers(cls).float()
        if self.settings.center_outputs:
            batch_mean = gather_batch(projected).mean(dim=0)
            started = bool(self.center.any())
            self.center.copy_(torch.lerp(batch_mean, self.center, CENTER_MOMENTUM) if started else batch_mean)
        z = nn.functional.normalize(projected - self.center, dim=-1)
        scores = self.prototypes(z)
        targets = sinkhorn(scores, self.settings.sinkhorn_epsilon, self.settings.sinkhorn_iterations)
        return targets, gather_batch(scores).std(dim=0).mean()

    def student_scores(self, views: Float[Tensor, "b 3 h w"], masked: bool) -> Float[Tensor, "b k"]:
        """z_s . C of the (masked) student views."""
        keep = self.visible_patches(views) if masked else None
        cls = self.student_encoder(views, keep=keep).cls
        return self.prototypes(self.student_head(cls, self.center if self.settings.center_outputs else None))

    @torch.no_grad()
    def visible_patches(self, views: Float[Tensor, "b 3 h w"]) -> Tensor | None:
        """Indices of the patches that the masking strategy keeps, or None for all."""
        masking = self.settings.masking
        if masking.strategy == "none" or masking.drop_ratio == 0:
            return None
        if masking.strategy in ("random", "block"):
            generator = torch.Generator(views.device).manual_seed(self._mask_seed(len(views)))
            rows, columns = self.student_encoder.grid(views.shape[-2], views.shape[-1])
            if masking.strategy == "random":
                mask = random_patch_mask(len(views), rows * columns, masking.drop_ratio, generator)
            else:
                mask = block_patch_mask(len(views), rows, columns, masking.drop_ratio, generator)
        else:
            attention = mean_cls_attention(self.attention_network()(views))
            of_attention = attention_patch_mask if masking.strategy == "attention" else most_attended_patch_mask
            mask = of_attention(attention, masking.drop_ratio)
        return kept_patches(mask)

    def _mask_seed(self, num_views: int) -> int:
        rank = self.trainer.global_rank if self._trainer is not None else 0
        return int(numpy_generator(self.seed, "mask", self.global_step, num_views, rank).integers(2**62))

    def attention_network(self) -> Encoder:
        """The network whose attention decides what is masked: the teacher, unless the recipe says otherwise."""
        source = self.settings.masking.attention_from
        if source == "student":
            return self.student_encoder
        if source == "initial":
            assert self.initial_encoder is not None
            return self.initial_encoder
        return self.teacher_encoder

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; biases, norms and prototypes are not decayed."""
        trained = [self.student_encoder, self.student_head]
        groups = decay_groups(trained, self.settings.weight_decay)
        groups[1]["params"] += list(self.prototypes.parameters())
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
        self.prototypes.normalize()
        step = min(self.global_step - 1, self.total_steps - 1)
        momentum = cosine(self.settings.teacher_momentum, 1.0, step, self.total_steps)
        update_teacher(self.teacher_encoder, self.student_encoder, momentum)
        update_teacher(self.teacher_head, self.student_head, momentum)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What is neither a parameter nor a buffer."""
        checkpoint["collapse_watch"] = self.watch.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The same again."""
        self.watch.load_state(checkpoint["collapse_watch"])

    def train(self, mode: bool = True) -> "PretrainModule":
        """The frozen networks stay in evaluation mode: no stochastic depth for the teacher."""
        super().train(mode)
        for network in (self.teacher_encoder, self.teacher_head, self.initial_encoder):
            if network is not None:
                network.eval()
        return self


def frozen_copy(module: M) -> M:
    """A copy in evaluation mode that takes no gradient."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """theta_t <- m theta_t + (1 - m) theta_s, parameters only."""
    for of_teacher, of_student in zip(teacher.parameters(), student.parameters(), strict=True):
        of_teacher.lerp_(of_student, 1 - momentum)
