"""Heads of the pre-training objectives that are compared with the paper's: DINO, iBOT and MSN.

SwAV needs none of its own: it has ``projection.ProjectionHead`` and ``projection.Prototypes``.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.paper.projection import BOTTLENECK_DIM, HIDDEN_DIM, ProjectionHead, mlp_layers


class WeightNormalizedLinear(nn.Module):
    """DINO's last layer, without bias: logit_k = g_k z . v_k / |v_k|, with g = 1 at the start.

    Args:
        out_dim: number of logits K.
        learn_norms: g is learned (DINO: ``norm_last_layer`` False, its choice for ViT-S) or stays 1.
    """

    def __init__(self, out_dim: int, learn_norms: bool = True) -> None:
        super().__init__()
        bound = BOTTLENECK_DIM**-0.5  # that of nn.Linear; the length of v decides how fast its direction moves
        self.directions = nn.Parameter(torch.empty(out_dim, BOTTLENECK_DIM).uniform_(-bound, bound))
        # (K, 1): as in DINO it counts as a matrix, which weight decay pulls down
        self.norms = nn.Parameter(torch.ones(out_dim, 1), requires_grad=learn_norms)

    def forward(self, z: Float[Tensor, "b 256"]) -> Float[Tensor, "b k"]:
        """Logits in [-g_k, g_k] for unit vectors z, float32 also under autocast.

        The loss divides them by a temperature of 0.04, so what bf16 rounds off would weigh 25 times as much.
        """
        with torch.autocast(z.device.type, enabled=False):
            return F.linear(z.float(), self.norms * F.normalize(self.directions, dim=-1))


class DistillationHead(nn.Module):
    """The head of DINO and iBOT: g with its l2 bottleneck, then the weight-normalised layer.

    iBOT uses one for [CLS] and patch tokens; the teacher has an EMA copy of the whole head.

    Args:
        in_dim: width d of the encoder.
        out_dim: number of logits K.
        learn_norms: see :class:`WeightNormalizedLinear`.
    """

    def __init__(self, in_dim: int, out_dim: int, learn_norms: bool = True) -> None:
        super().__init__()
        self.projection = ProjectionHead(in_dim)
        self.last_layer = WeightNormalizedLinear(out_dim, learn_norms)

    def forward(self, tokens: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Logits of tokens of any kind."""
        return self.last_layer(self.projection(tokens))


class MsnHead(nn.Module):
    """MSN's head: d-2048-2048-256 with GELU and a norm before each of the two, without l2 (the loss has it).

    Args:
        in_dim: width d of the encoder.
        norm: ``batch`` is the publication's. Its statistics are noisy on the teacher's single view of 16 images;
            and since the teacher's EMA covers parameters only, a teacher head with it must run in training mode, on
            the statistics of its own batch. ``layer`` and ``none`` treat each image alone.
    """

    def __init__(self, in_dim: int, norm: Literal["batch", "layer", "none"]) -> None:
        super().__init__()
        kinds = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": lambda _: nn.Identity()}
        first, first_gelu, second, second_gelu, last = mlp_layers(in_dim)
        self.layers = nn.Sequential(
            *(first, kinds[norm](HIDDEN_DIM), first_gelu),
            *(second, kinds[norm](HIDDEN_DIM), second_gelu),
            last,
        )

    def forward(self, cls: Float[Tensor, "b d"]) -> Float[Tensor, "b 256"]:
        """Embeddings z of any length, float32."""
        return self.layers(cls).float()


class MsnPrototypes(nn.Module):
    """MSN's prototypes: ``weight`` (K, 256), uniform in +-1/16 at the start and never renormalised.

    The loss takes ``weight`` itself and normalises it; a detached copy would stay at its initial values. They are
    not decayed.

    Args:
        num_prototypes: K.
    """

    def __init__(self, num_prototypes: int) -> None:
        super().__init__()
        bound = BOTTLENECK_DIM**-0.5
        self.weight = nn.Parameter(torch.empty(num_prototypes, BOTTLENECK_DIM).uniform_(-bound, bound))
