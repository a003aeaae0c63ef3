"""Stage 1 with MSN's objective: a view with dropped patches and small views take over the whole view's prototype."""

import torch
from torch import Tensor, nn

from flawmap.paper.patch_masking import kept_patches, random_patch_mask
from flawmap.paper.self_distillation import Objective, SelfDistillation, by_view, frozen_copy, spread_over_batch
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder
from flawmap.vit.inputs import normalise
from flawmap_bench.objectives.heads import MsnHead, MsnPrototypes
from flawmap_bench.objectives.msn_loss import NUM_PROTOTYPES, TEMPERATURE, msn_log_predictions, msn_loss, msn_targets

DROP_RATIO = 0.15  # of the global anchor's patches; MSN's for ViT-S
HEAD_NORM = "layer"  # batch norm of the teacher's one view of 16 images would be noise


class MsnModule(SelfDistillation):
    """The teacher sees one crop whole; the student another one with patches dropped, and the local ones whole.

    MSN drops the same patches of all images of a batch. Here each image has its own: the same number of them can be
    gathered just as well, and it is how our random masking does it.

    Args:
        encoder: initial encoder; becomes the student's.
        settings: of stage 1.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
        seed: of the run; masks are drawn from (seed, step).
        num_prototypes: K.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: PretrainSettings,
        total_steps: int,
        steps_per_epoch: int,
        seed: int,
        num_prototypes: int = NUM_PROTOTYPES,
    ) -> None:
        super().__init__(encoder, settings, total_steps, steps_per_epoch, seed)
        self.student_head = MsnHead(encoder.embed_dim, HEAD_NORM)
        self.teacher_encoder = frozen_copy(encoder)
        self.teacher_head = frozen_copy(self.student_head)
        self.prototypes = MsnPrototypes(num_prototypes)
        self.watch = self.watch_for(num_prototypes, stops=False)

    def learners(self) -> list[nn.Module]:
        """Encoder and head."""
        return [self.student_encoder, self.student_head]

    def prototypes_of(self) -> list[nn.Parameter]:
        """C, of any length: it is not put back on the sphere, the loss has the norm."""
        return list(self.prototypes.parameters())

    def followers(self) -> list[tuple[nn.Module, nn.Module]]:
        """Teacher and student; both are compared with the student's prototypes."""
        return [(self.teacher_encoder, self.student_encoder), (self.teacher_head, self.student_head)]

    @torch.no_grad()
    def kept_of_anchor(self, views: Tensor) -> Tensor:
        """(b, k) indices of the patches that the student sees of its global view."""
        rows, columns = self.student_encoder.grid(views.shape[-2], views.shape[-1])
        return kept_patches(random_patch_mask(len(views), rows * columns, DROP_RATIO, self.mask_generator(views)))

    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """Cross-entropy of all anchors with the target + how far their mean prediction is from uniform."""
        prototypes = self.prototypes.weight
        with torch.no_grad():
            embeddings = self.teacher_head(self.teacher_encoder(normalise(batch["teacher"])).cls)
            scores = msn_log_predictions(embeddings, prototypes) * TEMPERATURE  # cosines, but for a constant
        targets = msn_targets(embeddings, prototypes)
        view = normalise(batch["student_global"])
        anchor = self.student_encoder(view, keep=self.kept_of_anchor(view)).cls
        anchors = by_view(self.student_head(torch.cat([anchor, self.local_cls(batch)])), batch)
        return Objective(msn_loss(targets, anchors, prototypes), targets, spread_over_batch(scores))
