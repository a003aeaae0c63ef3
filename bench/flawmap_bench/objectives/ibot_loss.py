"""iBOT (Zhou et al. 2022): DINO on the [CLS] token, and the same on the patches that the student does not see.

Targets are ``dino.dino_targets`` of the teacher, which sees whole views, with one centre for [CLS] tokens and one
for patches. The patches' centre follows *all* patch tokens of the teacher, masked or not, as in iBOT's code
(DINOv2's follows the masked ones): ``dino.updated_center``. One head serves both kinds of token.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from flawmap_bench.objectives.dino_loss import STUDENT_TEMPERATURE, cross_view_loss

OUTPUT_DIM = 4096  # 8192 in the publication; as for DINO, a batch of 16 cannot estimate so long a centre
PATCH_WEIGHT = 1.0


def ibot_loss(
    cls_targets: Float[Tensor, "t b k"],
    student_cls: Float[Tensor, "v b k"],
    patch_targets: Float[Tensor, "m k"],
    student_patches: Float[Tensor, "m k"],
    mask: Bool[Tensor, "t b n"],
    temperature: float = STUDENT_TEMPERATURE,
    patch_weight: float = PATCH_WEIGHT,
) -> Float[Tensor, ""]:
    """L_cls + lambda L_patch.

    Args:
        cls_targets: of the T global views.
        student_cls: logits of all V views, first the same T crops in the same order.
        patch_targets: of the masked patches, see :func:`ibot_patch_loss`.
        student_patches: logits of the masked patches, see :func:`ibot_patch_loss`.
        mask: True where the student's global views are masked.
        temperature: of the student, in (0, 1).
        patch_weight: lambda.
    """
    cls_term = cross_view_loss(cls_targets, student_cls, temperature, shared_views=len(cls_targets))
    return cls_term + patch_weight * ibot_patch_loss(patch_targets, student_patches, mask, temperature)


def ibot_patch_loss(
    targets: Float[Tensor, "m k"],
    student_logits: Float[Tensor, "m k"],
    mask: Bool[Tensor, "t b n"],
    temperature: float = STUDENT_TEMPERATURE,
) -> Float[Tensor, ""]:
    """Mean over views and images of sum_i m_i CE(target_i, student_i) / max(1, sum_i m_i), within the same view.

    An image without masked patches adds nothing to the sum, but counts in the mean.

    Args:
        targets: of the masked patches only, ``teacher_tokens[mask]`` row by row; no gradient flows into them.
        student_logits: u of the same patches, unscaled.
        mask: True where the student sees the mask token in place of the patch.
        temperature: of the student, in (0, 1).

    Raises:
        ValueError: not as many rows as masked patches.
    """
    num_views, num_images, _ = mask.shape
    masked_per_image = mask.sum(dim=-1)  # (t, b)
    if int(masked_per_image.sum()) != len(targets):
        raise ValueError(f"{len(targets)} rows for {int(masked_per_image.sum())} masked patches")
    log_predictions = (student_logits.float() / temperature).log_softmax(dim=-1)
    cross_entropy = -(targets.detach() * log_predictions).sum(dim=-1)  # (m,)
    share = (1.0 / masked_per_image.clamp(min=1))[..., None].expand_as(mask)[mask]
    return (cross_entropy * share).sum() / (num_views * num_images)
