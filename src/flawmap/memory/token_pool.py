"""Tokens that the head is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class TokenPool:
    """Tokens to draw from, with the normal token that each is compared with.

    Attributes:
        tokens: of l blocks, float16.
        nearest: numbers of the nearest normal tokens of other images in the memory.
        among: numbers of those that are drawn; None: all.
    """

    tokens: Float[Tensor, "n l d"]
    nearest: Int[Tensor, "n l"]
    among: Int[Tensor, "m"] | None = None

    def __len__(self) -> int:
        return len(self.tokens if self.among is None else self.among)

    def some(self, count: int, generator: torch.Generator) -> "TokenPool":
        """So many of them, drawn with replacement."""
        drawn = torch.randint(len(self), (count,), generator=generator)
        return self.at(drawn if self.among is None else self.among[drawn])

    def at(self, rows: Int[Tensor, "r"]) -> "TokenPool":
        """The tokens with these numbers."""
        return TokenPool(self.tokens[rows], self.nearest[rows])

    @classmethod
    def joined(cls, pools: Sequence["TokenPool"]) -> "TokenPool":
        """All tokens of some pools."""
        return cls(torch.cat([pool.tokens for pool in pools]), torch.cat([pool.nearest for pool in pools]))
