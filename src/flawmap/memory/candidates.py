"""Which images' tokens are kept: the candidates that the memory is chosen from, and the reference images."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
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
        inside: the patches in the region of interest, whose tokens alone are candidates; None: all.

    Attributes:
        sources: (n,) int32, number of the image that a candidate comes from.
    """

    sources: Tensor

    def __init__(
        self,
        num_images: int,
        grid: tuple[int, int],
        shares: Shares,
        blocks_and_dim: tuple[int, int],
        seed: int,
        inside: Bool[Tensor, "i p"] | None = None,
    ) -> None:
        patches, shifts = grid[0] * grid[1], shares.shifts
        self._inside, self._of_shifts = inside, None
        counts = torch.full((num_images,), patches)  # of each image, the tokens to choose from
        shifted = torch.full((num_images,), sum(rows * columns for rows, columns in (s.grid(*grid) for s in shifts)))
        if inside is not None:
            masks = [shift.inside(shift.counted(inside, grid), grid) for shift in shifts]
            self._of_shifts = torch.cat(masks, dim=1) if masks else None  # (i, m)
            counts = inside.sum(dim=1)
            shifted = shifted if self._of_shifts is None else self._of_shifts.sum(dim=1)
        counts = counts.clamp(max=shares.per_image)
        is_all = shares.per_image == patches and len(shares.references) == num_images
        self.are_the_references = is_all and not shifts and inside is None
        self._ends = torch.cat([counts, shifted]).cumsum(dim=0).tolist()  # of each image's tokens, then of its shifts'
        self._per_image, self._num_images = shares.per_image, num_images
        # filled piece by piece, because pieces would be in memory twice when they are joined
        count = 0 if self.are_the_references else self._ends[-1]
        self._tokens = torch.empty(count, *blocks_and_dim, dtype=torch.float16)
        numbers = torch.arange(num_images, dtype=torch.int32).repeat(2)
        self.sources = numbers.repeat_interleave(torch.cat([counts, shifted]))
        self._generator = torch.Generator().manual_seed(seed)

    def take(self, number: int, tokens: Float[Tensor, "p l d"]) -> None:
        """Keep the tokens of an image, or some of them."""
        if self.are_the_references:
            return
        if self._inside is not None:
            tokens = tokens[self._inside[number]]
        if self._per_image < len(tokens):
            tokens = tokens[torch.randperm(len(tokens), generator=self._generator)[: self._per_image]]
        self._put(number, tokens)

    def take_shifted(self, numbers: range, tokens: Float[Tensor, "b m l d"]) -> None:
        """Keep all tokens of all shifts of some images."""
        for number, of_image in zip(numbers, tokens, strict=True):
            kept = of_image if self._of_shifts is None else of_image[self._of_shifts[number]]
            self._put(self._num_images + number, kept)

    def _put(self, place: int, tokens: Float[Tensor, "n l d"]) -> None:
        end = self._ends[place]
        self._tokens[end - len(tokens) : end] = tokens

    def tokens(self, reference_tokens: Float[Tensor, "k p l d"]) -> Float[Tensor, "n l d"]:
        """All candidates."""
        return reference_tokens.flatten(0, 1) if self.are_the_references else self._tokens
