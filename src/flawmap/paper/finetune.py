"""Stage 2: detect and localize simulated anomalies (Equation 5, Fig. 3)."""

import lightning
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from flawmap.engine.optimisation import check_finite, decay_groups, set_rates
from flawmap.engine.schedules import WarmupCosine
from flawmap.paper.dice import dice_loss
from flawmap.paper.heads import PaperHead, image_logit
from flawmap.recipe.settings import FinetuneSettings
from flawmap.scorer import upsample_map
from flawmap.vit.inputs import normalise


class FinetuneModule(lightning.LightningModule):
    """Trains the whole of the paper's scorer on normal images and their simulated anomalies, half and half.

    Args:
        scorer: encoder with both heads.
        settings: of stage 2.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
    """

    def __init__(self, scorer: PaperHead, settings: FinetuneSettings, total_steps: int, steps_per_epoch: int) -> None:
        super().__init__()
        self.scorer, self.settings = scorer, settings
        self.record: dict[str, float] = {}
        self.learning_rate = WarmupCosine.of_stage(settings, settings.learning_rate, steps_per_epoch, total_steps)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """L_fine-tune = lambda_det L_det + lambda_seg L_seg."""
        settings = self.settings
        images = normalise(torch.cat([batch["normal"], batch["anomalous"]]))  # (2 b, 3, s, s)
        labels = torch.cat([torch.zeros_like(batch["label"]), batch["label"]])  # (2 b,)
        footprints = torch.cat([torch.zeros_like(batch["footprint"]), batch["footprint"]]).float()  # Y, (2 b, s, s)
        logits, evidence = self.scorer(images)  # (2 b, 2), (2 b, r, c)
        detection = cross_entropy(logits, labels)  # L_det: on two neurons, BCE of their difference
        prediction = self.scorer.aggregation.probability(upsample_map(evidence, *footprints.shape[-2:]))
        segmentation = dice_loss(prediction, footprints, settings.dice)  # L_seg
        loss = settings.detection_weight * detection + settings.segmentation_weight * segmentation
        check_finite(loss, "finetune", self.global_step)
        right = (image_logit(logits.detach()) > 0) == labels.bool()
        self.record = {
            "loss": float(loss.detach()),
            "detection_loss": float(detection.detach()),
            "dice_loss": float(segmentation.detach()),
            "accuracy": float(right.float().mean()),
        }
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with rates of their own for the encoder, the fresh head and the aggregation weights."""
        settings, scorer = self.settings, self.scorer
        encoder = decay_groups([scorer.encoder], settings.weight_decay)
        head = decay_groups([scorer.detection], settings.weight_decay)
        aggregation = {
            "params": list(scorer.aggregation.parameters()),
            "weight_decay": 0.0,  # its scale is its meaning
            "decays": False,
            "rate": settings.aggregation_learning_rate_factor,
        }
        if settings.head_learning_rate is not None:
            for group in head:
                group["rate"] = settings.head_learning_rate / settings.learning_rate
        return torch.optim.AdamW([*encoder, *head, aggregation], lr=settings.learning_rate)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Learning rates of this step."""
        set_rates(self.optimizers(), self.learning_rate.at(self.global_step))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient's norm over all parameters."""
        torch.nn.utils.clip_grad_norm_(self.scorer.parameters(), self.settings.clip_gradient_norm)
