"""DINO (Caron et al. 2021): predict the teacher's centred, sharpened output for one view from another view.

One step, in this order: :func:`dino_targets` with the centre of the steps before, :func:`cross_view_loss`, then
:func:`updated_center`. SwAV and iBOT use the same cross-view loss, iBOT also the head.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.paper.clusters import gather_batch
from flawmap.paper.projection import BOTTLENECK_DIM, ProjectionHead
from flawmap.paper.self_distillation import (
    Objective,
    SelfDistillation,
    by_view,
    frozen_copy,
    local_views,
    spread_over_batch,
)
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder
from flawmap.vit.inputs import normalise

# 65536 in the publication, for batches of 1024. A batch of 16 has too few samples to estimate a centre that long.
OUTPUT_DIM = 4096
STUDENT_TEMPERATURE = 0.1
CENTER_MOMENTUM = 0.9
FIRST_TEACHER_TEMPERATURE, LAST_TEACHER_TEMPERATURE = 0.04, 0.07
TEMPERATURE_WARMUP_EPOCHS = 30
PUBLISHED_EPOCHS = 300  # shorter trainings warm up for the same share
FROZEN_LAST_LAYER_EPOCHS = 1  # while the centre is still far off, the last layer takes no gradient


@torch.no_grad()
def dino_targets(
    teacher_logits: Float[Tensor, "*rows k"], center: Float[Tensor, "k"], temperature: float
) -> Float[Tensor, "*rows k"]:
    """softmax((v - c) / tau_t), which the student has to predict. No gradient flows through it.

    Args:
        teacher_logits: v, of views and images in any leading axes.
        center: c, before these logits are averaged into it.
        temperature: tau_t, below the student's, so that the targets are sharp.

    Returns:
        float32 distributions over the last axis.
    """
    return ((teacher_logits.float() - center.float()) / temperature).softmax(dim=-1)


def cross_view_loss(
    targets: Float[Tensor, "t b k"],
    student_logits: Float[Tensor, "v b k"],
    temperature: float,
    shared_views: int,
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the batch and all pairs (t, s) of a teacher view and a different student view.

    With two global views first in both, it is DINO's 1 / (2 (V - 1)) sum_t sum_{s != t} CE(target_t, s).

    Args:
        targets: of the teacher's views; no gradient flows into them.
        student_logits: u, unscaled.
        temperature: of the student, in (0, 1).
        shared_views: the number of leading views that are the same crops for teacher and student, in the same order;
            these pairs are skipped. 2 for DINO, 0 where teacher and student see different crops.

    Raises:
        ValueError: more shared views than views, or no pair is left.
    """
    t, v = len(targets), len(student_logits)
    views = f"{t} teacher and {v} student views"
    if not 0 <= shared_views <= min(t, v):
        raise ValueError(f"shared_views is {shared_views}, but must be in [0, {min(t, v)}] for {views}")
    if t * v == shared_views:
        raise ValueError(f"{views} leave no pair of different views")
    log_predictions = (student_logits.float() / temperature).log_softmax(dim=-1)  # (v, b, k)
    # products and sums only: under autocast a matrix product would be computed in bf16
    pairs = -(targets.detach()[:, None] * log_predictions[None]).sum(dim=-1).mean(dim=-1)  # (t, v)
    same = torch.eye(t, v, dtype=torch.bool, device=pairs.device)
    same[shared_views:] = False
    return pairs.masked_fill(same, 0.0).sum() / (t * v - shared_views)


@torch.no_grad()
def updated_center(
    center: Float[Tensor, "k"], teacher_logits: Float[Tensor, "*rows k"], momentum: float = CENTER_MOMENTUM
) -> Float[Tensor, "k"]:
    """c <- m c + (1 - m) mean(v), the mean over all leading axes and all processes. Called after the loss.

    Args:
        center: c; zero before the first step.
        teacher_logits: v, equally many on every process.
        momentum: m in [0, 1).
    """
    own_mean = teacher_logits.float().flatten(end_dim=-2).mean(dim=0, keepdim=True)  # (1, k)
    return torch.lerp(gather_batch(own_mean).mean(dim=0), center.float(), momentum)


def teacher_temperature(
    step: int, warmup_steps: int, first: float = FIRST_TEACHER_TEMPERATURE, last: float = LAST_TEACHER_TEMPERATURE
) -> float:
    """tau_t at update number ``step`` (0 = first): linear from ``first`` to ``last`` at ``warmup_steps``."""
    share = min(step / warmup_steps, 1.0) if warmup_steps > 0 else 1.0
    return first + (last - first) * share


def global_views(batch: dict[str, Tensor]) -> Float[Tensor, "twice_b 3 g g"]:
    """Both global crops, normalised: the teacher's view of all images, then the student's.

    DINO and iBOT show both to teacher and student.
    """
    return normalise(torch.cat([batch["teacher"], batch["student_global"]]))


def local_cls(student: Encoder, batch: dict[str, Tensor]) -> Float[Tensor, "rows d"]:
    """The student's [CLS] tokens of the local views, which it sees whole: view by view; no rows without any."""
    if not batch["student_locals"].shape[1]:
        return torch.zeros(0, student.embed_dim, device=batch["student_locals"].device)
    return student(local_views(batch)).cls


class WeightNormalizedLinear(nn.Module):
    """DINO's last layer, without bias: logit_k = g_k z . v_k / |v_k|, with g = 1 at the start.

    Args:
        out_dim: number of logits K.
        learn_norms: g is learned (DINO: ``norm_last_layer`` False, its choice for ViT-S) or stays 1.
    """

    def __init__(self, out_dim: int, learn_norms: bool = True) -> None:
        super().__init__()
        bound = BOTTLENECK_DIM**-0.5  # that of nn.Linear; the length of v decides how fast its direction moves
        self.directions = nn.Parameter(torch.empty(out_dim, BOTTLENECK_DIM).uniform_(-bound, bound))
        # (K, 1): as in DINO it counts as a matrix and is decayed
        self.norms = nn.Parameter(torch.ones(out_dim, 1), requires_grad=learn_norms)

    def forward(self, z: Float[Tensor, "b 256"]) -> Float[Tensor, "b k"]:
        """Logits in [-g_k, g_k] for unit vectors z, float32 also under autocast.

        The loss divides them by a temperature of 0.04, which would amplify bf16's rounding errors 25 times.
        """
        with torch.autocast(z.device.type, enabled=False):
            return F.linear(z.float(), self.norms * F.normalize(self.directions, dim=-1))


class DistillationHead(nn.Module):
    """The head of DINO and iBOT: g with its l2 bottleneck, then the weight-normalised layer.

    iBOT uses one for [CLS] and patch tokens; the teacher has an EMA copy of the whole head.

    Args:
        in_dim: width d of the encoder.
        out_dim: number of logits K.
        learn_norms: see :class:`WeightNormalizedLinear`.
    """

    def __init__(self, in_dim: int, out_dim: int, learn_norms: bool = True) -> None:
        super().__init__()
        self.projection = ProjectionHead(in_dim)
        self.last_layer = WeightNormalizedLinear(out_dim, learn_norms)

    def forward(self, tokens: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Logits of tokens of any kind."""
        return self.last_layer(self.projection(tokens))


class TeacherAndStudent(SelfDistillation):
    """An objective whose teacher has a copy of the student's encoder and head.

    It takes the arguments of :class:`SelfDistillation`, and ``num_outputs``: K, the class's own number if it is None.
    A subclass makes its networks in :meth:`add_networks`.
    """

    default_outputs: ClassVar[int]

    def __init__(
        self,
        encoder: Encoder,
        settings: PretrainSettings,
        total_steps: int,
        steps_per_epoch: int,
        seed: int,
        num_outputs: int | None = None,
    ) -> None:
        super().__init__(encoder, settings, total_steps, steps_per_epoch, seed)
        self.num_outputs = num_outputs or self.default_outputs
        self.watch = self.watch_for(self.num_outputs, stops=False)
        self.student_head = self.new_head()
        self.teacher_encoder = frozen_copy(encoder)
        self.teacher_head = frozen_copy(self.student_head)
        self.add_networks()

    @abstractmethod
    def new_head(self) -> nn.Module:
        """The student's head; the teacher gets a copy."""

    @abstractmethod
    def add_networks(self) -> None:
        """Add what else is learned or averaged, once encoders and heads are there."""

    def learners(self) -> list[nn.Module]:
        """Encoder and head."""
        return [self.student_encoder, self.student_head]

    def followers(self) -> list[tuple[nn.Module, nn.Module]]:
        """Teacher and student."""
        return [(self.teacher_encoder, self.student_encoder), (self.teacher_head, self.student_head)]


class DinoModule(TeacherAndStudent):
    """Both global crops go to teacher and student, the local ones to the student alone; each has its own last layer."""

    default_outputs = OUTPUT_DIM
    center: Tensor  # (K,) running mean of the teacher's logits

    def new_head(self) -> DistillationHead:
        """DINO's."""
        return DistillationHead(self.student_encoder.embed_dim, self.num_outputs)

    def add_networks(self) -> None:
        """The centre; also the two schedules."""
        self.register_buffer("center", torch.zeros(self.num_outputs))
        epochs = self.total_steps / self.steps_per_epoch
        warmup_epochs = min(TEMPERATURE_WARMUP_EPOCHS, epochs * TEMPERATURE_WARMUP_EPOCHS / PUBLISHED_EPOCHS)
        self.temperature_warmup = round(warmup_epochs * self.steps_per_epoch)
        # one epoch, but at most a third of the training: the last layer has to learn, too
        self.last_layer_frozen = min(round(FROZEN_LAST_LAYER_EPOCHS * self.steps_per_epoch), self.total_steps // 3)

    @property
    def teacher_temperature(self) -> float:
        """tau_t of this step."""
        return teacher_temperature(self.global_step, self.temperature_warmup)

    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """Mean cross-entropy over all pairs of a teacher view and a different student view."""
        views = global_views(batch)  # (2 b, 3, h, w)
        with torch.no_grad():
            logits = by_view(self.teacher_head(self.teacher_encoder(views).cls), batch)  # (2, b, k)
        targets = dino_targets(logits, self.center, self.teacher_temperature)
        cls = torch.cat([self.student_encoder(views).cls, local_cls(self.student_encoder, batch)])
        student = by_view(self.student_head(cls), batch)  # (v, b, k)
        loss = cross_view_loss(targets, student, STUDENT_TEMPERATURE, shared_views=len(targets))
        self.center.copy_(updated_center(self.center, logits))
        return Objective(loss, targets.flatten(0, 1), spread_over_batch(logits.flatten(0, 1)))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip gradients; at first, leave the last layer without gradient and weight decay."""
        super().on_before_optimizer_step(optimizer)
        if self.global_step < self.last_layer_frozen:
            assert isinstance(self.student_head, DistillationHead)
            for parameter in self.student_head.last_layer.parameters():
                parameter.grad = None
