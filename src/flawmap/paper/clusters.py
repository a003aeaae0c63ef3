"""Agreement of cluster assignments (Equation 1) with Sinkhorn-Knopp pseudo labels."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch import distributed as dist


@torch.no_grad()
def sinkhorn(scores: Float[Tensor, "b k"], epsilon: float, iterations: int = 3) -> Float[Tensor, "b k"]:
    """Pseudo labels y_t: soft assignments of a batch to K prototypes that use all prototypes equally.

    Sinkhorn-Knopp (Cuturi 2013; SwAV) in float32 and in the log domain, so that no exponential can overflow. Under
    distributed training the scores of all processes are balanced together.

    Args:
        scores: dot products of the teacher's features and the prototypes, in [-1, 1].
        epsilon: entropy of the assignment; the smaller, the harder. The paper names none; SwAV uses 0.05.
        iterations: rounds of normalising prototypes, then samples.

    Returns:
        float32; every row sums to 1, every column to about b / k.
    """
    local = scores.detach().float()
    log_plan = gather_batch(local) / epsilon
    for _ in range(iterations):
        log_plan = log_plan - log_plan.logsumexp(dim=0, keepdim=True)  # each prototype gets the same mass
        log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True)  # each sample has mass one
    return own_rows(log_plan.exp(), len(local))


def cluster_agreement_loss(
    targets: Float[Tensor, "b k"], student_scores: Float[Tensor, "v b k"], temperature: float
) -> Float[Tensor, ""]:
    """L_multiview of Equation 1, averaged over the V student views and the batch.

    Args:
        targets: y_t, no gradient flows into them.
        student_scores: z_s . C for each student view, unscaled.
        temperature: tau in (0, 1).
    """
    log_predictions = (student_scores.float() / temperature).log_softmax(dim=-1)
    return -(targets.detach() * log_predictions).sum(dim=-1).mean()


def entropy(probabilities: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Mean entropy in nats of the rows; ln K means that nothing is assigned to anything."""
    return torch.special.entr(probabilities.float()).sum(dim=-1).mean()


def prototypes_used(targets: Float[Tensor, "b k"]) -> int:
    """How many prototypes are the favourite of at least one sample."""
    return int(targets.argmax(dim=-1).unique().numel())


def gather_batch(rows: Float[Tensor, "b k"]) -> Float[Tensor, "all k"]:
    """The rows of all processes in order of rank (without gradient); the rows themselves in a single process."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, rows.contiguous())
    return torch.cat(gathered)


def own_rows(rows: Float[Tensor, "all k"], num_rows: int) -> Float[Tensor, "b k"]:
    """This process's part of what :func:`gather_batch` put together."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    start = dist.get_rank() * num_rows
    return rows[start : start + num_rows]
