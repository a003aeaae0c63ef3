"""Stage 1 with iBOT's objective: DINO's, and the teacher's output for each patch that the student does not see."""

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from flawmap.paper.patch_masking import block_patch_mask
from flawmap.paper.self_distillation import Objective, by_view, global_views, spread_over_batch
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder
from flawmap_bench.objectives.dino import DinoModule
from flawmap_bench.objectives.dino_loss import dino_targets, updated_center
from flawmap_bench.objectives.ibot_loss import OUTPUT_DIM, PATCH_WEIGHT, ibot_loss

MASKED_SHARE = 0.5  # of the global crops; the others are seen whole
MIN_RATIO, MAX_RATIO = 0.1, 0.5  # of a masked crop's patches


class IbotModule(DinoModule):
    """DINO with block masks on the student's global crops; one head for [CLS] and patches, a centre for each.

    Args:
        encoder: initial encoder; becomes the student's.
        settings: of stage 1.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
        seed: of the run; masks are drawn from (seed, step).
        num_outputs: K.
    """

    patch_center: Tensor  # (K,) running mean of the teacher's logits of all patches

    def __init__(
        self,
        encoder: Encoder,
        settings: PretrainSettings,
        total_steps: int,
        steps_per_epoch: int,
        seed: int,
        num_outputs: int = OUTPUT_DIM,
    ) -> None:
        super().__init__(encoder, settings, total_steps, steps_per_epoch, seed, num_outputs)
        self.mask_token = nn.Parameter(torch.zeros(encoder.embed_dim))
        self.register_buffer("patch_center", torch.zeros(num_outputs))
        # predictions that say nothing cost ln K per [CLS] token, and again where patches are masked
        collapsed = (1 + PATCH_WEIGHT * MASKED_SHARE) * self.watch.uniform
        self.watch = self.watch_for(num_outputs, stops=False, uniform_loss=collapsed)

    def prototypes_of(self) -> list[nn.Parameter]:
        """The mask token is not decayed."""
        return [self.mask_token]

    @torch.no_grad()
    def hidden_patches(self, views: Tensor) -> Bool[Tensor, "rows n"]:
        """Blocks of U(0.1, 0.5) of a crop's patches, one at least, in half of the crops; nothing in the others.

        iBOT tosses a coin for each crop. Here exactly half of them are drawn, so that every step has masked patches
        and the loss of a collapsed model is the same in all of them.
        """
        rows, columns = self.student_encoder.grid(views.shape[-2], views.shape[-1])
        generator = self.mask_generator(views)
        order = torch.rand(len(views), generator=generator, device=views.device).argsort()
        ratios = torch.rand(len(views), generator=generator, device=views.device) * (MAX_RATIO - MIN_RATIO) + MIN_RATIO
        ratios = ratios.clamp(min=1 / (rows * columns)).tolist()
        mask = torch.zeros(len(views), rows * columns, dtype=torch.bool, device=views.device)
        for index in order[: round(MASKED_SHARE * len(views))].tolist():
            mask[index] = block_patch_mask(1, rows, columns, ratios[index], generator)[0]
        return mask

    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """L_cls over pairs of different views + lambda L_patch within the same view."""
        views, temperature = global_views(batch), self.teacher_temperature
        mask = self.hidden_patches(views)
        with torch.no_grad():
            seen = self.teacher_encoder(views, patch_tokens=True)
            assert seen.patch_tokens is not None
            cls_logits = by_view(self.teacher_head(seen.cls), batch)
            patch_logits = self.teacher_head(seen.patch_tokens.flatten(0, 1))
        targets = dino_targets(cls_logits, self.center, temperature)
        patch_targets = dino_targets(patch_logits[mask.flatten()], self.patch_center, temperature)
        student = self.student_encoder(views, patch_tokens=True, mask=mask, mask_token=self.mask_token)
        assert student.patch_tokens is not None
        cls = by_view(self.student_head(torch.cat([student.cls, self.local_cls(batch)])), batch)
        patches = self.student_head(student.patch_tokens[mask])
        loss = ibot_loss(targets, cls, patch_targets, patches, mask.unflatten(0, targets.shape[:2]))
        self.center.copy_(updated_center(self.center, cls_logits))
        self.patch_center.copy_(updated_center(self.patch_center, patch_logits))
        return Objective(loss, targets.flatten(0, 1), spread_over_batch(cls_logits.flatten(0, 1)))
