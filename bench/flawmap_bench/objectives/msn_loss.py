"""MSN (Assran et al. 2022): masked and small views take over the unmasked view's assignment to prototypes.

Embeddings and prototypes come as they are, the l2 norm is part of the loss. Everything stays in logarithms, because
powers of probabilities underflow.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flawmap.paper.clusters import gather_batch, sinkhorn

# 1024 in the publication. The entropy term wants the mean prediction of a batch to cover all prototypes, which the
# 11 x 16 anchors of 16 images can for 64, but not for 1024.
NUM_PROTOTYPES = 64
MEAN_ENTROPY_WEIGHT = 1.0  # lambda of the publication, kept: with 64 prototypes the term can reach zero
TEMPERATURE = 0.1
SHARPENING = 0.25


def msn_log_predictions(
    embeddings: Float[Tensor, "*rows d"], prototypes: Float[Tensor, "k d"], temperature: float = TEMPERATURE
) -> Float[Tensor, "*rows k"]:
    """ln softmax(cos(z, C) / tau), float32 also under autocast.

    Args:
        embeddings: z of any length.
        prototypes: C of any length: the parameter itself, so that it learns.
        temperature: tau in (0, 1).
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        cosines = F.normalize(embeddings.float(), dim=-1) @ F.normalize(prototypes.float(), dim=-1).t()
        return (cosines / temperature).log_softmax(dim=-1)


@torch.no_grad()
def msn_targets(
    embeddings: Float[Tensor, "b d"],
    prototypes: Float[Tensor, "k d"],
    temperature: float = TEMPERATURE,
    sharpening: float = SHARPENING,
    iterations: int = 3,
) -> Float[Tensor, "b k"]:
    """Sinkhorn(p^(1/T) / sum p^(1/T)) of the teacher's predictions p. No gradient flows through it.

    Unlike SwAV's, this Sinkhorn balances probabilities, not exp(score / epsilon).

    Args:
        embeddings: of the teacher's one unmasked view.
        prototypes: C.
        temperature: tau of p.
        sharpening: T in (0, 1]; 1 leaves p as it is.
        iterations: rounds of normalising prototypes, then samples; 0 leaves the sharpened p.

    Returns:
        float32; every row sums to 1.
    """
    log_sharpened = (msn_log_predictions(embeddings, prototypes, temperature) / sharpening).log_softmax(dim=-1)
    return sinkhorn(log_sharpened, epsilon=1.0, iterations=iterations)  # exp(ln p / 1) = p


def msn_loss(
    targets: Float[Tensor, "b k"],
    anchors: Float[Tensor, "v b d"],
    prototypes: Float[Tensor, "k d"],
    temperature: float = TEMPERATURE,
    mean_entropy_weight: float = MEAN_ENTROPY_WEIGHT,
) -> Float[Tensor, ""]:
    """Mean CE(target, softmax(cos(z, C) / tau)) over all anchors + lambda (ln K - H(mean prediction)).

    No pair is skipped: the anchors are other crops than the target view.

    Args:
        targets: of the teacher's view; no gradient flows into them.
        anchors: z, embeddings of the student's views: the masked global one and the small ones.
        prototypes: C, the parameter itself, so that it learns.
        temperature: tau in (0, 1).
        mean_entropy_weight: lambda.
    """
    log_predictions = msn_log_predictions(anchors, prototypes, temperature)
    cross_entropy = -(targets.detach() * log_predictions).sum(dim=-1).mean()
    return cross_entropy + mean_entropy_weight * mean_entropy_gap(log_predictions)


def mean_entropy_gap(log_predictions: Float[Tensor, "v b k"]) -> Float[Tensor, ""]:
    """ln K - H(p), p the mean prediction over all anchors of all processes: 0 if and only if p is uniform.

    Args:
        log_predictions: ln p of each anchor, normalised.
    """
    own = log_predictions.flatten(0, 1).logsumexp(dim=0) - math.log(log_predictions[..., 0].numel())
    of_all = gather_batch(own.detach()[None])
    log_mean = of_all.logsumexp(dim=0) - math.log(len(of_all))
    # The value is that of all processes, the gradient that of this one; averaged over the processes it is the true
    # one. It is ln p dp instead of (ln p + 1) dp, which is the same because p sums to 1.
    mean = own.exp() + (log_mean.exp() - own.exp()).detach()
    return math.log(len(log_mean)) + (mean * log_mean).sum()
