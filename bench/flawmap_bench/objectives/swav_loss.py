"""SwAV (Caron et al. 2020): predict the cluster of one view from the other views, with one network for both.

The prototypes are ``models.projection.Prototypes``: no bias, back on the unit sphere after each step. There is no
teacher: the targets come from the scores of the student's own global views.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.paper.clusters import sinkhorn
from flawmap_bench.objectives.dino_loss import cross_view_loss

# 3000 in the publication, with a queue of 3840 samples. A batch of 16 images of one category cannot fill them: the
# compared method's number is used, and no queue, so that only the objective differs.
TEMPERATURE = 0.1


def swav_targets(scores: Float[Tensor, "t b k"], epsilon: float, iterations: int = 3) -> Float[Tensor, "t b k"]:
    """q_t = Sinkhorn(u_t) for each global view on its own. No gradient flows through it.

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
