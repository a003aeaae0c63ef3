"""Trains the residual head: which tokens of an image with simulated anomalies are anomalous?"""

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from flawmap.engine.optimisation import check_finite, decay_groups, set_rates
from flawmap.engine.schedules import WarmupCosine
from flawmap.memory.scorer import ResidualScorer
from flawmap.recipe.settings import ResidualSettings
from flawmap.vit.inputs import normalise

ANOMALOUS_COVER = 0.15  # a patch of which the anomaly covers so much is anomalous; with less, it is not judged
WARMUP_STEPS = 20
CLIP_GRADIENT_NORM = 1.0


class ResidualModule(lightning.LightningModule):
    """The encoder and the memory stay as they are; the head alone learns.

    Args:
        scorer: with its memory filled.
        settings: of the head.
        total_steps: optimizer steps of the stage.
    """

    def __init__(self, scorer: ResidualScorer, settings: ResidualSettings, total_steps: int) -> None:
        super().__init__()
        self.scorer, self.settings = scorer, settings
        self.scorer.encoder.eval().requires_grad_(False)
        self.record: dict[str, float] = {}
        self.learning_rate = WarmupCosine(0.0, settings.learning_rate, 0.0, WARMUP_STEPS, total_steps)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Binary cross-entropy over the tokens of normal images and of the same images with anomalies.

        A training image's own tokens are in the memory; they are left out when it is looked up, because those of a
        new image are not there either.
        """
        images = normalise(torch.cat([batch["normal"], batch["anomalous"]]))
        footprints = torch.cat([torch.zeros_like(batch["footprint"]), batch["footprint"]]).float()
        numbers = torch.cat([batch["index"], batch["index"]])
        with torch.no_grad():
            shape = self.scorer.shape
            tokens = self.scorer.encoder.tokens_of(images, shape.blocks, shape.relative)
            nearest = self.scorer.memory.nearest(tokens, exclude=numbers, precise=False)
        logits = self.scorer.head(tokens, nearest)
        cover = F.avg_pool2d(footprints[:, None], self.scorer.encoder.patch_size_px).flatten(1)
        targets = (cover >= ANOMALOUS_COVER).float()
        judged = (targets > 0) | (cover == 0)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        loss = losses[judged].mean()
        check_finite(loss, "residual", self.global_step)
        found = (logits.detach() > 0)[targets > 0].float()
        self.record = {
            "loss": float(loss.detach()),
            "anomalous_share": float(targets.mean()),
            "found": float(found.mean()) if len(found) else 0.0,
        }
        return loss

    def train(self, mode: bool = True) -> "ResidualModule":
        """The encoder stays in evaluation mode."""
        super().train(mode)
        self.scorer.encoder.eval()
        return self

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the head."""
        return torch.optim.AdamW(decay_groups([self.scorer.head], self.settings.weight_decay), lr=1.0)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Learning rate of this step."""
        set_rates(self.optimizers(), self.learning_rate.at(self.global_step))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient's norm over the head."""
        torch.nn.utils.clip_grad_norm_(self.scorer.head.parameters(), CLIP_GRADIENT_NORM)
