"""The residual head: is a token anomalous, judged by itself and by how it differs from the nearest normal one?"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.recipe.settings import ResidualSettings


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

    def forward(self, tokens: Float[Tensor, "b n l d"], normal: Float[Tensor, "b n l d"]) -> Float[Tensor, "b n"]:
        """Logits of p(anomalous), float32.

        Args:
            tokens: of the encoder.
            normal: the nearest normal token of each, of unit length.
        """
        unit = nn.functional.normalize(tokens, dim=-1)
        difference = (unit - normal).abs() * tokens.shape[-1] ** 0.5  # as large as a token's entries
        inputs = torch.cat([tokens.flatten(2), difference.flatten(2)], dim=-1)  # (b, n, 2 l d)
        return self.layers(inputs)[..., 0].float()
