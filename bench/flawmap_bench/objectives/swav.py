"""Stage 1 with SwAV's objective: each view predicts the balanced cluster of the global views, without a teacher."""

import torch
from torch import Tensor, nn

from flawmap.paper.projection import ProjectionHead, Prototypes
from flawmap.paper.self_distillation import Objective, SelfDistillation, by_view, global_views, spread_over_batch
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder
from flawmap_bench.objectives.swav_loss import swav_loss, swav_targets

NUM_TARGET_VIEWS = 2  # the global ones


class SwavModule(SelfDistillation):
    """One network sees all crops; head, number of prototypes, temperature and Sinkhorn are those of ours.

    Args:
        encoder: initial encoder; itself the result of the stage.
        settings: of stage 1.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
        seed: of the run.
    """

    def __init__(
        self, encoder: Encoder, settings: PretrainSettings, total_steps: int, steps_per_epoch: int, seed: int
    ) -> None:
        super().__init__(encoder, settings, total_steps, steps_per_epoch, seed)
        self.student_head = ProjectionHead(encoder.embed_dim)
        self.prototypes = Prototypes(settings.prototypes)
        self.watch = self.watch_for(settings.prototypes, stops=False)

    def learners(self) -> list[nn.Module]:
        """Encoder and head."""
        return [self.student_encoder, self.student_head]

    def prototypes_of(self) -> list[nn.Parameter]:
        """C."""
        return list(self.prototypes.parameters())

    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """Each view's cross-entropy with the assignments of the global views other than itself."""
        settings = self.settings
        cls = torch.cat([self.student_encoder(global_views(batch)).cls, self.local_cls(batch)])
        scores = by_view(self.prototypes(self.student_head(cls)), batch)
        of_globals = scores[:NUM_TARGET_VIEWS]
        targets = swav_targets(of_globals, settings.sinkhorn_epsilon, settings.sinkhorn_iterations)
        loss = swav_loss(targets, scores, settings.temperature)
        return Objective(loss, targets.flatten(0, 1), spread_over_batch(of_globals.detach().flatten(0, 1)))
