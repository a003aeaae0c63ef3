"""DINO (Caron et al. 2021): predict the teacher's centred, sharpened output of one view from another view.

One step, in this order: ``dino_targets`` with the centre of the steps before, ``cross_view_loss``, then
``updated_center``. SwAV and iBOT use the same cross-view loss.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.paper.clusters import gather_batch

# 65536 in the publication, for batches of 1024. A batch of 16 has too few samples to estimate a centre that long.
OUTPUT_DIM = 4096
STUDENT_TEMPERATURE = 0.1
CENTER_MOMENTUM = 0.9
FIRST_TEACHER_TEMPERATURE, LAST_TEACHER_TEMPERATURE = 0.04, 0.07
TEMPERATURE_WARMUP_EPOCHS = 30
FROZEN_LAST_LAYER_EPOCHS = 1  # the last layer takes no gradient so long, while the centre is still far off


@torch.no_grad()
def dino_targets(
    teacher_logits: Float[Tensor, "*rows k"], center: Float[Tensor, "k"], temperature: float
) -> Float[Tensor, "*rows k"]:
    """softmax((v - c) / tau_t): what the student has to predict. No gradient flows through it.

    Args:
        teacher_logits: v, of views and images in any leading axes.
        center: c, as it was before these logits joined it.
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
    """Mean cross-entropy over the batch and all pairs (t, s) of a teacher view and another student view.

    With two global views in front of both, it is DINO's 1 / (2 (V - 1)) sum_t sum_{s != t} CE(target_t, s).

    Args:
        targets: of the teacher's views; no gradient flows into them.
        student_logits: u, unscaled.
        temperature: of the student, in (0, 1).
        shared_views: the first so many views are the same crops for teacher and student, in the same order; these
            pairs are skipped. 2 for DINO, 0 where teacher and student see crops of their own, so that a pair never
            drops out just because of its place.

    Raises:
        ValueError: more shared views than views, or no pair is left.
    """
    t, v = len(targets), len(student_logits)
    views = f"{t} teacher and {v} student views"
    if not 0 <= shared_views <= min(t, v):
        raise ValueError(f"shared_views is {shared_views}, but must be in [0, {min(t, v)}] for {views}")
    if t * v == shared_views:
        raise ValueError(f"{views} leave no pair of different views")
    log_predictions = (student_logits.float() / temperature).log_softmax(dim=-1)
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
        teacher_logits: v, as many on every process.
        momentum: m in [0, 1).
    """
    own_mean = teacher_logits.float().flatten(end_dim=-2).mean(dim=0, keepdim=True)
    return torch.lerp(gather_batch(own_mean).mean(dim=0), center.float(), momentum)


def teacher_temperature(
    step: int, warmup_steps: int, first: float = FIRST_TEACHER_TEMPERATURE, last: float = LAST_TEACHER_TEMPERATURE
) -> float:
    """tau_t at the update number ``step`` (0 = first): linear from ``first`` to ``last`` at ``warmup_steps``."""
    share = min(step / warmup_steps, 1.0) if warmup_steps > 0 else 1.0
    return first + (last - first) * share
