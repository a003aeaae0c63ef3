"""SwAV (Caron et al. 2020): predict the cluster of one view from the other views, with one network for both.

The prototypes are :class:`flawmap.paper.projection.Prototypes`: no bias, and renormalised after each step. There is no
teacher: the targets come from the scores of the student's own global views.

The publication has 3000 prototypes and a queue of 3840 samples, which batches of 16 images of one category cannot
fill. Here SwAV uses the number of prototypes of the method it is compared with, and no queue.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.paper.clusters import sinkhorn
from flawmap.paper.projection import ProjectionHead, Prototypes
from flawmap.paper.self_distillation import Objective, SelfDistillation, by_view, spread_over_batch
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder
from flawmap_bench.objectives.dino import cross_view_loss, global_views, local_cls

TEMPERATURE = 0.1
NUM_TARGET_VIEWS = 2  # the global ones


def swav_targets(scores: Float[Tensor, "t b k"], epsilon: float, iterations: int = 3) -> Float[Tensor, "t b k"]:
    """q_t = Sinkhorn(u_t) for each global view separately. No gradient flows through it.

    Args:
        scores: u_t = z_t . C of the global views, in [-1, 1].
        epsilon: entropy of the assignment; SwAV uses 0.05.
        iterations: rounds of normalising prototypes, then samples.

    Returns:
        float32; in each view every row sums to 1, every column to about b / k.
    """
    return torch.stack([sinkhorn(view, epsilon, iterations) for view in scores])


def swav_loss(
    targets: Float[Tensor, "t b k"], scores: Float[Tensor, "v b k"], temperature: float = TEMPERATURE
) -> Float[Tensor, ""]:
    """1/2 sum_{t in {1, 2}} 1 / (V - 1) sum_{s != t} CE(q_t, softmax(u_s / tau)).

    Args:
        targets: q_t of the T global views, in the order of ``scores``.
        scores: u_s of all V views, the T global ones first; V > T or T > 1.
        temperature: tau in (0, 1).
    """
    return cross_view_loss(targets, scores, temperature, shared_views=len(targets))


class SwavModule(SelfDistillation):
    """One network sees all crops; head, number of prototypes, temperature and Sinkhorn are those of ``clusters``."""

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
        settings, student = self.settings, self.student_encoder
        cls = torch.cat([student(global_views(batch)).cls, local_cls(student, batch)])  # (v b, d)
        scores = by_view(self.prototypes(self.student_head(cls)), batch)  # (v, b, k)
        global_scores = scores[:NUM_TARGET_VIEWS]
        targets = swav_targets(global_scores, settings.sinkhorn_epsilon, settings.sinkhorn_iterations)
        loss = swav_loss(targets, scores, settings.temperature)
        return Objective(loss, targets.flatten(0, 1), spread_over_batch(global_scores.detach().flatten(0, 1)))
