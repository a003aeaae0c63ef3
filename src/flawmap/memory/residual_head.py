"""The residual head: is a token anomalous, judged by itself and by how it differs from the nearest normal one?"""

import lightning
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.engine.optimisation import check_finite, decay_groups, set_rates
from flawmap.engine.schedules import WarmupCosine
from flawmap.memory.patch_memory import Nearest, PatchMemory
from flawmap.recipe.settings import ResidualSettings
from flawmap.vit.encoder import Encoder
from flawmap.vit.inputs import normalise


class ResidualHead(nn.Module):
    """One hidden layer on a token and on its difference from the nearest normal token.

    Args:
        num_blocks: l.
        dim: d of a token.
        settings: width, dropout and initial logit.
    """

    def __init__(self, num_blocks: int, dim: int, settings: ResidualSettings) -> None:
        super().__init__()
        self.initial_logit = settings.initial_logit
        inputs = 2 * num_blocks * dim
        self.layers = nn.Sequential(
            nn.LayerNorm(inputs),
            nn.Dropout(settings.dropout),
            nn.Linear(inputs, settings.hidden),
            nn.GELU(),
            nn.Linear(settings.hidden, 1),
        )
        self.reset()

    def reset(self) -> None:
        """Draw fresh weights from torch's generator."""
        for layer in self.layers:
            if isinstance(layer, nn.Linear | nn.LayerNorm):
                layer.reset_parameters()
        nn.init.constant_(self.layers[-1].bias, self.initial_logit)  # pyright: ignore[reportArgumentType]

    def forward(self, tokens: Float[Tensor, "b n l d"], nearest: Nearest) -> Float[Tensor, "b n"]:
        """Logits of p(anomalous), float32."""
        unit = nn.functional.normalize(tokens, dim=-1)
        difference = (unit - nearest.tokens).abs() * tokens.shape[-1] ** 0.5  # as large as a token's entries
        inputs = torch.cat([tokens.flatten(2), difference.flatten(2)], dim=-1)  # (b, n, 2 l d)
        return self.layers(inputs)[..., 0].float()


class ResidualTraining(lightning.LightningModule):
    """Trains the head; encoder and memory stay as they are.

    Args:
        head: to be trained.
        memory: filled.
        encoder: frozen.
        blocks: of the encoder, whose tokens are used; 0 = first.
        relative: see :meth:`flawmap.vit.encoder.Encoder.tokens_of`.
        settings: of the head.
        total_steps: optimizer steps of the stage.
    """

    def __init__(
        self,
        head: ResidualHead,
        memory: PatchMemory,
        encoder: Encoder,
        blocks: tuple[int, ...],
        relative: bool,
        settings: ResidualSettings,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.head, self.memory, self.encoder = head, memory, encoder.eval().requires_grad_(False)
        self.blocks, self.relative, self.settings = blocks, relative, settings
        self.record: dict[str, float] = {}
        self.learning_rate = WarmupCosine(0.0, settings.learning_rate, 0.0, settings.warmup_steps, total_steps)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Binary cross-entropy over the tokens of good images and of the same images with simulated defects.

        The memory holds tokens of the training images themselves. They are left out of the lookup, because the tokens
        of a new image are not in the memory either.
        """
        images = normalise(torch.cat([batch["normal"], batch["anomalous"]]))  # (2 b, 3, s, s)
        footprints = torch.cat([torch.zeros_like(batch["footprint"]), batch["footprint"]]).float()  # (2 b, s, s)
        numbers = torch.cat([batch["index"], batch["index"]])  # (2 b,)
        with torch.no_grad():
            tokens = self.encoder.tokens_of(images, self.blocks, self.relative)  # (2 b, n, l, d)
            nearest = self.memory.nearest(tokens, exclude=numbers, precise=False)
        logits = self.head(tokens, nearest)  # (2 b, n)
        # A patch that a defect only touches is not judged.
        cover = F.avg_pool2d(footprints[:, None], self.encoder.patch_size_px).flatten(1)  # (2 b, n)
        targets = (cover >= self.settings.anomalous_cover).float()
        judged = (targets > 0) | (cover == 0)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        loss = losses[judged].mean()
        check_finite(loss, "residual", self.global_step)
        detected = (logits.detach() > 0)[targets > 0].float()
        self.record = {
            "loss": float(loss.detach()),
            "anomalous_share": float(targets.mean()),
            "found": float(detected.mean()) if len(detected) else 0.0,
        }
        return loss

    def train(self, mode: bool = True) -> "ResidualTraining":
        """The encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the head."""
        return torch.optim.AdamW(decay_groups([self.head], self.settings.weight_decay), lr=1.0)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Learning rate of this step."""
        set_rates(self.optimizers(), self.learning_rate.at(self.global_step))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient's norm over the head."""
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.settings.clip_gradient_norm)


def describe_step(record: dict[str, float]) -> str:
    """What is printed of a training step."""
    return f"loss {record['loss']:.3f}  found {record['found']:.0%} of the anomalous patches"
