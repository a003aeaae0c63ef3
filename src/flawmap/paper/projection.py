"""The projection head g and the prototypes C of stage 1."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

HIDDEN_DIM = 2048
BOTTLENECK_DIM = 256


def mlp_layers(in_dim: int) -> nn.Sequential:
    """The layers that the projection head and the detection head share: d-2048-2048-256, GELU (DINO's head)."""
    layers = nn.Sequential(
        nn.Linear(in_dim, HIDDEN_DIM),
        nn.GELU(),
        nn.Linear(HIDDEN_DIM, HIDDEN_DIM),
        nn.GELU(),
        nn.Linear(HIDDEN_DIM, BOTTLENECK_DIM),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return layers


class ProjectionHead(nn.Module):
    """g: the [CLS] token -> z on the unit sphere of R^256.

    Args:
        in_dim: width d of the encoder.
    """

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.layers = mlp_layers(in_dim)

    def forward(self, cls: Float[Tensor, "b d"], center: Float[Tensor, "256"] | None = None) -> Float[Tensor, "b 256"]:
        """Project and l2-normalise; ``center`` is subtracted before the norm where it is given."""
        projected = self.layers(cls).float()
        return F.normalize(projected if center is None else projected - center, dim=-1)


class Prototypes(nn.Module):
    """C: K learnable unit vectors. ``forward`` gives the scores z . C.

    Args:
        num_prototypes: K.
    """

    def __init__(self, num_prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_prototypes, BOTTLENECK_DIM))
        self.normalize()

    @torch.no_grad()
    def normalize(self) -> None:
        """Put the prototypes back on the unit sphere; done after every gradient step."""
        self.weight.copy_(F.normalize(self.weight, dim=-1))

    def forward(self, z: Float[Tensor, "b 256"]) -> Float[Tensor, "b k"]:
        """Scores in [-1, 1] for unit vectors z, float32 also under autocast.

        In bf16 they would be off by 6e-4, which Sinkhorn's small epsilon magnifies to a hundredth of a target.
        """
        with torch.autocast(z.device.type, enabled=False):
            return z.float() @ self.weight.float().t()
