"""Phi of the paper: the encoder with its detection head and the learned aggregation of its attention maps."""

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flawmap.paper.projection import BOTTLENECK_DIM, mlp_layers
from flawmap.scorer import Scorer, ScorerOutput
from flawmap.vit.encoder import Encoder

INITIAL_MAP_MEAN = 0.08  # expected map value of an image where attention is spread evenly


class DetectionHead(nn.Module):
    """g_gamma: the projection head's layers, then two neurons (normal, anomalous).

    The l2 bottleneck is left out: with unit vectors and unit weights the logits would lie in [-1, 1], and
    cross-entropy could not fall below 0.127.
    """

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.layers = mlp_layers(in_dim)
        self.neurons = nn.Linear(BOTTLENECK_DIM, 2)
        nn.init.trunc_normal_(self.neurons.weight, std=0.02)
        nn.init.zeros_(self.neurons.bias)

    def forward(self, cls: Float[Tensor, "b d"]) -> Float[Tensor, "b 2"]:
        """Logits of (normal, anomalous)."""
        return self.neurons(self.layers(cls)).float()


class AttentionAggregation(nn.Module):
    """Learned weights over the last block's [CLS] attention maps: Y_hat = sigmoid(b + E), E = sum_l w_l N A_l.

    E is called the evidence. What it says is kept apart from the constant b, because far from any anomaly E is
    around 1e-6, which float32 could not tell from 0 beside b.

    Attention is about 1 / N per patch: times N it does not fade with the number of patches, so that one set of
    weights serves every scale. It is not renormalised over the patches, because on normal images the mass
    belongs on the [CLS] column.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_heads,), 1 / num_heads))
        initial_logit = math.log(INITIAL_MAP_MEAN / (1 - INITIAL_MAP_MEAN))
        self.bias = nn.Parameter(torch.tensor(initial_logit - 1.0))

    def forward(self, cls_attention: Float[Tensor, "b heads n"]) -> Float[Tensor, "b n"]:
        """E on the patch grid, row-major; 0 where no head looks."""
        num_patches = cls_attention.shape[-1]
        # a plain weighted sum: autocast would turn a matrix product into bf16, too coarse for a map
        return (self.weight[:, None] * cls_attention.float() * num_patches).sum(dim=1)

    def probability(self, evidence: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Y_hat = sigmoid(b + E)."""
        return (self.bias + evidence).sigmoid()


class PaperHead(Scorer):
    """Phi of the paper: an image gives one image logit and a map of evidence on its patch grid.

    Args:
        encoder: pre-trained; all of it is tuned in stage 2.
    """

    decides: ClassVar[bool] = True

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.detection = DetectionHead(encoder.embed_dim)
        self.aggregation = AttentionAggregation(encoder.num_heads)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b r c"]]:
        """Score normalised images whose sides are multiples of the patch size.

        Returns:
            logits of (normal, anomalous), and the map's evidence E on the patch grid; both float32.
        """
        output = self.encoder(images)
        evidence = self.aggregation(output.cls_attention)
        rows, columns = self.encoder.grid(images.shape[-2], images.shape[-1])
        return self.detection(output.cls), evidence.reshape(-1, rows, columns)

    def score(self, images: Float[Tensor, "b 3 h w"], inside: Bool[Tensor, "b n"] | None = None) -> ScorerOutput:
        """The image's logit and the map's evidence, of whole images alone."""
        assert inside is None
        logits, evidence = self(images)
        return ScorerOutput(image_logit(logits), evidence)


def image_logit(logits: Float[Tensor, "b 2"]) -> Float[Tensor, "b"]:
    """The logit of p(anomalous): the difference of the two neurons. Unlike p it does not saturate."""
    return logits[:, 1] - logits[:, 0]
