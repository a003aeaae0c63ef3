"""Stage 1: the student, seeing a masked view, agrees with the teacher's clusters (Equations 1 to 4, Fig. 2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.paper.clusters import cluster_agreement_loss, gather_batch, sinkhorn
from flawmap.paper.patch_masking import FOLLOW_ATTENTION, kept_patches, patch_mask
from flawmap.paper.projection import BOTTLENECK_DIM, ProjectionHead, Prototypes
from flawmap.paper.self_distillation import (
    Objective,
    SelfDistillation,
    by_view,
    frozen_copy,
    local_views,
    spread_over_batch,
)
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.inputs import normalise

CENTER_MOMENTUM = 0.9


class PretrainModule(SelfDistillation):
    """One training step follows the paper: teacher targets, APMask, student predictions, agreement.

    Args:
        encoder: initial encoder; becomes the student's.
        settings: of stage 1.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
        seed: of the run; random masks are drawn from (seed, step).

    The result of the stage is ``teacher_encoder``.
    """

    center: Tensor  # (256,) running mean of the teacher's outputs; zero unless ``center_outputs``

    def __init__(
        self, encoder: Encoder, settings: PretrainSettings, total_steps: int, steps_per_epoch: int, seed: int
    ) -> None:
        super().__init__(encoder, settings, total_steps, steps_per_epoch, seed)
        self.student_head = ProjectionHead(encoder.embed_dim)
        self.teacher_encoder = frozen_copy(encoder)
        self.teacher_head = frozen_copy(self.student_head)
        self.initial_encoder = frozen_copy(encoder) if settings.masking.attention_from == "initial" else None
        self.prototypes = Prototypes(settings.prototypes)
        self.register_buffer("center", torch.zeros(BOTTLENECK_DIM))
        self.watch = self.watch_for(settings.prototypes)

    def learners(self) -> list[nn.Module]:
        """Encoder and head."""
        return [self.student_encoder, self.student_head]

    def prototypes_of(self) -> list[nn.Parameter]:
        """C."""
        return list(self.prototypes.parameters())

    def followers(self) -> list[tuple[nn.Module, nn.Module]]:
        """Teacher and student; both score with the student's prototypes."""
        return [(self.teacher_encoder, self.student_encoder), (self.teacher_head, self.student_head)]

    def frozen(self) -> list[nn.Module]:
        """The teacher, and the initial encoder where it decides what is masked."""
        initial = [] if self.initial_encoder is None else [self.initial_encoder]
        return super().frozen() + initial

    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """Equation 1 on one mini-batch of views."""
        settings = self.settings
        targets, spread = self.pseudo_labels(normalise(batch["teacher"]))  # y_t, (b, k)
        scores = [self.student_scores(normalise(batch["student_global"]), masked=True)]  # (b, k)
        if batch["student_locals"].shape[1]:
            # All local views form one batch: they have the same size and the same number of dropped patches.
            scores.append(self.student_scores(local_views(batch), masked=settings.masking.mask_local_views))  # (v b, k)
        loss = cluster_agreement_loss(targets, by_view(torch.cat(scores), batch), settings.temperature)
        return Objective(loss, targets, spread)

    @torch.no_grad()
    def pseudo_labels(self, teacher_views: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b k"], Tensor]:
        """y_t = Sinkhorn(z_t . C) of the unmasked teacher view, and the spread of its scores over the batch."""
        cls = self.teacher_encoder(teacher_views).cls  # (b, d)
        projected = self.teacher_head.layers(cls).float()  # (b, 256)
        if self.settings.center_outputs:
            batch_mean = gather_batch(projected).mean(dim=0)
            started = bool(self.center.any())
            self.center.copy_(torch.lerp(batch_mean, self.center, CENTER_MOMENTUM) if started else batch_mean)
        z = nn.functional.normalize(projected - self.center, dim=-1)  # (b, 256)
        scores = self.prototypes(z)  # z_t . C, (b, k)
        targets = sinkhorn(scores, self.settings.sinkhorn_epsilon, self.settings.sinkhorn_iterations)
        return targets, spread_over_batch(scores)

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
        grid = self.student_encoder.grid(views.shape[-2], views.shape[-1])
        how = masking.strategy, grid, masking.drop_ratio
        if masking.strategy in FOLLOW_ATTENTION:
            return kept_patches(patch_mask(*how, torch.Generator(views.device), self.attention_of(views)))
        mask = self.random_mask(views, lambda rows, generator: patch_mask(*how, generator, num_images=rows))
        return kept_patches(mask)

    def attention_of(self, views: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """A^[CLS] of the network that decides, without the student's stochastic depth."""
        network = self.attention_network()
        was_training = network.training
        network.eval()
        attention = mean_cls_attention(network(views))
        network.train(was_training)
        return attention

    def attention_network(self) -> Encoder:
        """The network whose attention decides what is masked: the teacher, unless the recipe says otherwise."""
        source = self.settings.masking.attention_from
        if source == "student":
            return self.student_encoder
        if source == "initial":
            assert self.initial_encoder is not None
            return self.initial_encoder
        return self.teacher_encoder
