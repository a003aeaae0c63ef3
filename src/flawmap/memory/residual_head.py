"""A small head that says of each token whether it is anomalous."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flawmap.memory.patch_memory import Nearest


class ResidualHead(nn.Module):
    """Is this token anomalous? Judged from the token and from how it differs from its nearest normal one.

    Args:
        num_blocks: l.
        dim: d of a token.
        hidden: width of the one hidden layer.
    """

    DROPOUT = 0.2
    INITIAL_LOGIT = -3.0  # few patches are anomalous

    def __init__(self, num_blocks: int, dim: int, hidden: int) -> None:
        super().__init__()
        inputs = 2 * num_blocks * dim
        self.layers = nn.Sequential(
            nn.LayerNorm(inputs), nn.Dropout(self.DROPOUT), nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )
        self.reset()

    def reset(self) -> None:
        """Draw fresh weights."""
        for layer in self.layers:
            if isinstance(layer, nn.Linear | nn.LayerNorm):
                layer.reset_parameters()
        nn.init.constant_(self.layers[-1].bias, self.INITIAL_LOGIT)  # pyright: ignore[reportArgumentType]

    def forward(self, tokens: Float[Tensor, "b n l d"], nearest: Nearest) -> Float[Tensor, "b n"]:
        """Logits of p(anomalous), float32."""
        unit = nn.functional.normalize(tokens, dim=-1)
        difference = (unit - nearest.tokens).abs() * tokens.shape[-1] ** 0.5  # as large as the tokens' own entries
        return self.layers(torch.cat([tokens.flatten(2), difference.flatten(2)], dim=-1))[..., 0].float()
