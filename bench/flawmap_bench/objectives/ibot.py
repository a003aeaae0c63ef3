"""iBOT (Zhou et al. 2022): DINO on the [CLS] token, and the same on the patches that the student does not see.

Targets are :func:`flawmap_bench.objectives.dino.dino_targets` of the teacher, which sees whole views, with one centre
for [CLS] tokens and one for patches. The centre of the patches follows *all* patch tokens of the teacher, masked or
not, as in iBOT's code (DINOv2's follows the masked ones). One head serves both kinds of token.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flawmap.paper.patch_masking import block_patch_mask
from flawmap.paper.self_distillation import Objective, by_view, spread_over_batch
from flawmap_bench.objectives.dino import (
    STUDENT_TEMPERATURE,
    DinoModule,
    cross_view_loss,
    dino_targets,
    global_views,
    local_cls,
    updated_center,
)

OUTPUT_DIM = 4096  # 8192 in the publication; as for DINO, a batch of 16 cannot estimate so long a centre
PATCH_WEIGHT = 1.0
MASKED_SHARE = 0.5  # of the global crops; the others are seen whole
MIN_RATIO, MAX_RATIO = 0.1, 0.5  # of a masked crop's patches


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
        ValueError: the number of rows is not the number of masked patches.
    """
    num_views, num_images, _ = mask.shape
    masked_per_image = mask.sum(dim=-1)  # (t, b)
    if int(masked_per_image.sum()) != len(targets):
        raise ValueError(f"{len(targets)} rows for {int(masked_per_image.sum())} masked patches")
    log_predictions = (student_logits.float() / temperature).log_softmax(dim=-1)  # (m, k)
    cross_entropy = -(targets.detach() * log_predictions).sum(dim=-1)  # (m,)
    share = (1.0 / masked_per_image.clamp(min=1))[..., None].expand_as(mask)[mask]  # (m,)
    return (cross_entropy * share).sum() / (num_views * num_images)


def half_hidden(crops: int, rows: int, columns: int, generator: torch.Generator) -> Bool[Tensor, "crops n"]:
    """Block masks of half of the crops, see :meth:`IbotModule.hidden_patches`."""
    device = generator.device
    order = torch.rand(crops, generator=generator, device=device).argsort()
    ratios = torch.rand(crops, generator=generator, device=device) * (MAX_RATIO - MIN_RATIO) + MIN_RATIO
    ratios = ratios.clamp(min=1 / (rows * columns)).tolist()
    mask = torch.zeros(crops, rows * columns, dtype=torch.bool, device=device)
    for index in order[: round(MASKED_SHARE * crops)].tolist():
        mask[index] = block_patch_mask(1, rows, columns, ratios[index], generator)[0]
    return mask


class IbotModule(DinoModule):
    """DINO with block masks on the student's global crops; one head for [CLS] and patches, a centre for each.

    Masks are drawn from (seed, step).
    """

    default_outputs = OUTPUT_DIM
    patch_center: Tensor  # (K,) running mean of the teacher's logits of all patches

    def add_networks(self) -> None:
        """The mask token and the centre of patches; the watch knows the loss of a collapse."""
        super().add_networks()
        self.mask_token = nn.Parameter(torch.zeros(self.student_encoder.embed_dim))
        self.register_buffer("patch_center", torch.zeros(self.num_outputs))
        # uniform predictions cost ln K per [CLS] token, and again where patches are masked
        collapsed = (1 + PATCH_WEIGHT * MASKED_SHARE) * self.watch.uniform
        self.watch = self.watch_for(self.num_outputs, stops=False, uniform_loss=collapsed)

    def prototypes_of(self) -> list[nn.Parameter]:
        """The mask token, which is not decayed."""
        return [self.mask_token]

    @torch.no_grad()
    def hidden_patches(self, views: Tensor) -> Bool[Tensor, "rows n"]:
        """Blocks of U(0.1, 0.5) of a crop's patches, at least one patch, in half of the crops; none in the others.

        iBOT tosses a coin for each crop. Here exactly half of them are drawn, so that every step has masked patches
        and the loss of a collapsed model is the same in all of them.
        """
        rows, columns = self.student_encoder.grid(views.shape[-2], views.shape[-1])
        return self.random_mask(views, lambda crops, generator: half_hidden(crops, rows, columns, generator))

    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """L_cls over pairs of different views + lambda L_patch within the same view."""
        views, temperature = global_views(batch), self.teacher_temperature  # (2 b, 3, h, w)
        mask = self.hidden_patches(views)  # (2 b, n)
        with torch.no_grad():
            seen = self.teacher_encoder(views, patch_tokens=True)
            assert seen.patch_tokens is not None
            cls_logits = by_view(self.teacher_head(seen.cls), batch)  # (2, b, k)
            patch_logits = self.teacher_head(seen.patch_tokens.flatten(0, 1))  # (2 b n, k)
        targets = dino_targets(cls_logits, self.center, temperature)
        patch_targets = dino_targets(patch_logits[mask.flatten()], self.patch_center, temperature)  # (m, k)
        student = self.student_encoder(views, patch_tokens=True, mask=mask, mask_token=self.mask_token)
        assert student.patch_tokens is not None
        every_cls = torch.cat([student.cls, local_cls(self.student_encoder, batch)])  # (v b, d)
        cls = by_view(self.student_head(every_cls), batch)  # (v, b, k)
        patches = self.student_head(student.patch_tokens[mask])  # (m, k)
        loss = ibot_loss(targets, cls, patch_targets, patches, mask.unflatten(0, targets.shape[:2]))
        self.center.copy_(updated_center(self.center, cls_logits))
        self.patch_center.copy_(updated_center(self.patch_center, patch_logits))
        return Objective(loss, targets.flatten(0, 1), spread_over_batch(cls_logits.flatten(0, 1)))
