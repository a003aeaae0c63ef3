"""Which images' tokens are kept: the candidates that the memory is chosen from, and the reference images."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.engine.sampling import evenly_spread
from flawmap.memory.shifts import Shift, shifts_within
from flawmap.recipe.settings import Recipe


@dataclass(frozen=True)
class Shares:
    """Of which images, and how many of each, tokens are kept.

    Attributes:
        per_image: candidates for the memory from each image.
        references: numbers of the images whose tokens are all kept, ascending.
        shifts: all tokens of the images shifted like this are candidates as well.
    """

    per_image: int
    references: tuple[int, ...]
    shifts: tuple[Shift, ...]

    @classmethod
    def of(cls, num_images: int, grid: tuple[int, int], recipe: Recipe) -> "Shares":
        """As many as the recipe's limits allow, at least one token of every image and one reference.

        Args:
            num_images: good images, or tiles of them.
            grid: rows and columns of patches.
            recipe: its ``memory`` and ``expectation`` set the limits.
        """
        patches, memory = grid[0] * grid[1], recipe.memory
        per_image = max(1, min(patches, memory.candidates // num_images))
        num_references = min(recipe.expectation.images, max(1, recipe.expectation.tokens // patches))
        shifts = shifts_within(memory.candidates, num_images, grid, memory.shifts)
        return cls(per_image, tuple(evenly_spread(num_images, num_references)), shifts)


class Candidates:
    """Tokens of good images in float16, filled image by image.

    Nothing is kept where the reference images' tokens are the candidates.

    Args:
        num_images: that give tokens.
        grid: rows and columns of patches.
        shares: how many tokens of each image.
        blocks_and_dim: number of blocks l and width d of their tokens.
        seed: of the choice among an image's tokens.

    Attributes:
        sources: (n,) int32, number of the image that a candidate comes from.
    """

    sources: Tensor

    def __init__(
        self, num_images: int, grid: tuple[int, int], shares: Shares, blocks_and_dim: tuple[int, int], seed: int
    ) -> None:
        patches = grid[0] * grid[1]
        self.shifts, self._per_image, self._patches = shares.shifts, shares.per_image, patches
        grids = [shift.grid(*grid) for shift in shares.shifts]
        self._per_shifted = sum(rows * columns for rows, columns in grids)
        self.are_the_references = (
            shares.per_image == patches and len(shares.references) == num_images and not shares.shifts
        )
        # filled piece by piece, because pieces would be in memory twice when they are joined
        count = 0 if self.are_the_references else num_images * (shares.per_image + self._per_shifted)
        self._tokens = torch.empty(count, *blocks_and_dim, dtype=torch.float16)
        numbers = torch.arange(num_images, dtype=torch.int32)
        of_shifted = numbers.repeat_interleave(self._per_shifted)
        self.sources = torch.cat([numbers.repeat_interleave(shares.per_image), of_shifted])
        self._first_shifted = num_images * shares.per_image
        self._generator = torch.Generator().manual_seed(seed)

    def take(self, number: int, tokens: Float[Tensor, "p l d"]) -> None:
        """Keep the tokens of an image, or some of them."""
        if self.are_the_references:
            return
        if self._per_image < self._patches:
            tokens = tokens[torch.randperm(self._patches, generator=self._generator)[: self._per_image]]
        self._tokens[number * self._per_image :][: self._per_image] = tokens

    def take_shifted(self, numbers: range, tokens: Float[Tensor, "b m l d"]) -> None:
        """Keep all tokens of all shifts of some images."""
        start = self._first_shifted + numbers.start * self._per_shifted
        self._tokens[start:][: len(numbers) * self._per_shifted] = tokens.flatten(0, 1)

    def tokens(self, reference_tokens: Float[Tensor, "k p l d"]) -> Float[Tensor, "n l d"]:
        """All candidates."""
        return reference_tokens.flatten(0, 1) if self.are_the_references else self._tokens
