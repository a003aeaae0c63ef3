"""Stage 1 with DINO's objective: each view predicts the teacher's centred output of the other global view."""

import torch
from torch import Tensor, nn

from flawmap.paper.self_distillation import (
    Objective,
    SelfDistillation,
    by_view,
    frozen_copy,
    global_views,
    spread_over_batch,
)
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder
from flawmap_bench.objectives.dino_loss import (
    FROZEN_LAST_LAYER_EPOCHS,
    OUTPUT_DIM,
    STUDENT_TEMPERATURE,
    TEMPERATURE_WARMUP_EPOCHS,
    cross_view_loss,
    dino_targets,
    teacher_temperature,
    updated_center,
)
from flawmap_bench.objectives.heads import DistillationHead

PUBLISHED_EPOCHS = 300  # what the warm-up of 30 epochs belongs to; shorter trainings warm up for the same share


class DinoModule(SelfDistillation):
    """Both global crops go to teacher and student, the local ones to the student alone.

    Args:
        encoder: initial encoder; becomes the student's.
        settings: of stage 1.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
        seed: of the run.
        num_outputs: K.
    """

    center: Tensor  # (K,) running mean of the teacher's logits

    def __init__(
        self,
        encoder: Encoder,
        settings: PretrainSettings,
        total_steps: int,
        steps_per_epoch: int,
        seed: int,
        num_outputs: int = OUTPUT_DIM,
    ) -> None:
        super().__init__(encoder, settings, total_steps, steps_per_epoch, seed)
        self.student_head = DistillationHead(encoder.embed_dim, num_outputs)
        self.teacher_encoder = frozen_copy(encoder)
        self.teacher_head = frozen_copy(self.student_head)
        self.register_buffer("center", torch.zeros(num_outputs))
        self.watch = self.watch_for(num_outputs, stops=False)
        epochs = total_steps / steps_per_epoch
        self.temperature_warmup = round(
            min(TEMPERATURE_WARMUP_EPOCHS, epochs * TEMPERATURE_WARMUP_EPOCHS / PUBLISHED_EPOCHS) * steps_per_epoch
        )
        # one epoch, but not all of a training that is no longer: the last layer has to learn, too
        self.last_layer_frozen = min(round(FROZEN_LAST_LAYER_EPOCHS * steps_per_epoch), total_steps // 3)

    def learners(self) -> list[nn.Module]:
        """Encoder and head; the last layer is part of it and decays."""
        return [self.student_encoder, self.student_head]

    def followers(self) -> list[tuple[nn.Module, nn.Module]]:
        """Teacher and student, each with a last layer of its own."""
        return [(self.teacher_encoder, self.student_encoder), (self.teacher_head, self.student_head)]

    @property
    def teacher_temperature(self) -> float:
        """tau_t of this step."""
        return teacher_temperature(self.global_step, self.temperature_warmup)

    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """Mean cross-entropy over all pairs of a teacher view and another student view."""
        views = global_views(batch)
        with torch.no_grad():
            logits = by_view(self.teacher_head(self.teacher_encoder(views).cls), batch)
        targets = dino_targets(logits, self.center, self.teacher_temperature)
        cls = torch.cat([self.student_encoder(views).cls, self.local_cls(batch)])
        student = by_view(self.student_head(cls), batch)
        loss = cross_view_loss(targets, student, STUDENT_TEMPERATURE, shared_views=len(targets))
        self.center.copy_(updated_center(self.center, logits))
        return Objective(loss, targets.flatten(0, 1), spread_over_batch(logits.flatten(0, 1)))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip; at first the last layer takes no gradient and no weight decay."""
        super().on_before_optimizer_step(optimizer)
        if self.global_step < self.last_layer_frozen:
            for parameter in self.student_head.last_layer.parameters():
                parameter.grad = None
