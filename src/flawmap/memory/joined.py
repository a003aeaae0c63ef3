"""Good images that join those a scorer was fitted to: both as the encoder left them, within the recipe's limits.

As far as the limits do not bind, this is what the encoder would give for all of them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flawmap.engine.sampling import evenly_spread
from flawmap.memory.candidates import Shares
from flawmap.memory.good_images import GoodImages
from flawmap.memory.scorer import Evidence
from flawmap.memory.shifts import Shift, shifts_within
from flawmap.memory.units import Tiles, WholeImages
from flawmap.recipe.settings import Recipe

Grid = tuple[int, int]


@dataclass(frozen=True)
class Joining:
    """What a fit goes on from.

    Attributes:
        before: the good images of the earlier fit.
        num_before: how many images those are; of tiles, in how many images they may lie.
        added: new ones, whole or in tiles.
        head: state of the head, which stays; None trains another one, or the method has none.
        not_counted: numbers of images that set neither scales nor threshold, because they were chosen for their scores.
    """

    before: GoodImages
    num_before: int
    added: WholeImages | Tiles
    head: dict[str, Tensor] | None
    not_counted: frozenset[int]

    def shares_of_added(self, grid: Grid, recipe: Recipe) -> Shares:
        """How many tokens of each new image are kept, and of which all: as if all images were encoded together."""
        added = self.added.images
        num_units = len(self.before.images) + len(added)
        share = Shares.of(num_units, grid, recipe)
        most = _most_references(recipe, grid, num_units, self.num_images)
        of_images = torch.tensor(evenly_spread(len(self.added.identities), most))
        references = torch.isin(added.long(), of_images).nonzero()[:, 0].tolist()
        return Shares(share.per_image, tuple(references), share.shifts)

    def counted(self, good: GoodImages, rows: Sequence[int], evidence: Sequence[Evidence]) -> list[Evidence]:
        """The evidence, without that in images that do not count; ``rows`` of the references are what it is of."""
        numbers = good.images[good.references[torch.tensor(rows)].long()].tolist()
        return [of for number, of in zip(numbers, evidence, strict=True) if number not in self.not_counted]

    @property
    def num_images(self) -> int:
        """Of before and new ones."""
        return self.num_before + len(self.added.identities)


def joined(joining: Joining, added: GoodImages, recipe: Recipe) -> GoodImages:
    """The images of before and the new ones, numbered after them.

    Args:
        joining: says what was before.
        added: what the encoder gives for the new ones, with the shares that ``joining`` names.
        recipe: its limits hold for all together. Of the candidates, each image keeps its share; of the reference
            images, those that are kept are evenly spread.
    """
    before, (rows, columns) = joining.before, added.attention.shape[1:]
    grid, num_units = (rows, columns), len(before.images) + len(added.images)
    first_unit, first_image = len(before.images), joining.num_before
    images = torch.cat([before.images, added.images + first_image])
    share = Shares.of(num_units, grid, recipe)
    references = torch.cat([before.references, added.references + first_unit])
    most = _most_references(recipe, grid, num_units, joining.num_images)
    kept = _kept_references(images[references.long()], most)
    tokens = _rows_of_both(before.reference_tokens, added.reference_tokens, kept)
    inside = None if before.inside is None or added.inside is None else torch.cat([before.inside, added.inside])
    are_all = len(kept) == num_units and share.per_image == rows * columns and not share.shifts and inside is None
    if before.is_of_shards:
        candidates, sources = _joined_with_core(before, added, first_image, recipe.memory.candidates)
    elif are_all:
        candidates, sources = tokens.flatten(0, 1), images.repeat_interleave(rows * columns)
    else:
        earlier_shifts = shifts_within(recipe.memory.candidates, first_unit, grid, recipe.memory.shifts)
        own, shifted = _of_before(before, share, earlier_shifts, grid)
        limit = torch.tensor(rows * columns) if added.inside is None else added.inside.sum(dim=1)
        num_own = int(limit.clamp(max=share.per_image).expand(len(added.images)).sum())
        new_own, new_shifted = torch.arange(len(added.sources)).tensor_split([num_own])
        sources = added.sources + first_image
        chosen = [before.candidates[own], added.candidates[new_own], before.candidates[shifted]]
        candidates = torch.cat([*chosen, added.candidates[new_shifted]])
        sources = torch.cat([before.sources[own], sources[new_own], before.sources[shifted], sources[new_shifted]])
    return GoodImages(
        attention=torch.cat([before.attention, added.attention]),
        references=references[kept],
        reference_appearances=torch.cat([before.reference_appearances, added.reference_appearances])[kept],
        reference_tokens=tokens,
        candidates=candidates,
        sources=sources.int(),
        images=images.int(),
        originals_px=torch.cat([before.originals_px, added.originals_px]),
        inside=inside,
    )


def _joined_with_core(
    before: GoodImages, added: GoodImages, first_image: int, limit: int
) -> tuple[Float[Tensor, "n l d"], Int[Tensor, "n l"]]:
    """Candidates and their sources where those of before were chosen shard by shard: all new ones, and what fits."""
    kept = torch.tensor(evenly_spread(len(before.sources), max(1, limit - len(added.sources))))
    sources = (added.sources + first_image)[:, None].expand(-1, before.sources.shape[1])
    return torch.cat([before.candidates[kept], added.candidates]), torch.cat([before.sources[kept], sources])


def _rows_of_both(before: Float[Tensor, "a *d"], added: Float[Tensor, "b *d"], rows: Int[Tensor, "k"]) -> Tensor:
    """Rows, in ascending order, of two tensors as if they were one; only what is kept is copied."""
    first = len(before)
    return torch.cat([before[rows[rows < first]], added[rows[rows >= first] - first]])


def _most_references(recipe: Recipe, grid: Grid, num_units: int, num_images: int) -> int:
    """Of how many images all tokens are kept."""
    expectation, per_image = recipe.expectation, num_units / num_images
    return max(1, min(expectation.images, int(expectation.tokens / (grid[0] * grid[1]) / per_image)))


def _kept_references(image_of: Int[Tensor, "k"], most: int) -> Int[Tensor, "_"]:
    """Rows of the references that are kept: all those of some images, evenly spread."""
    images = image_of.unique()
    kept = images[torch.tensor(evenly_spread(len(images), most))]
    return torch.isin(image_of, kept).nonzero()[:, 0]


def _of_before(
    before: GoodImages, share: Shares, shifts: tuple[Shift, ...], grid: Grid
) -> tuple[Int[Tensor, "_"], Int[Tensor, "_"]]:
    """Which candidates of before are kept: of the images themselves, and of the images shifted."""
    counts = _counts_of_shifts(before, shifts, grid)  # (u, s)
    own, shifted = torch.arange(len(before.sources)).tensor_split([len(before.sources) - int(counts.sum())])
    num_units = torch.bincount(before.images.long())  # of each image
    generator, kept = torch.Generator().manual_seed(0), []
    for image, rows in zip(*_grouped(before.sources[own], own), strict=True):
        quota = share.per_image * int(num_units[image])
        if len(rows) > quota:
            rows = rows[torch.randperm(len(rows), generator=generator)[:quota].sort().values]
        kept.append(rows)
    keeps = torch.tensor([shift in share.shifts for shift in shifts])
    if len(shifted) and not keeps.all():
        shifted = shifted[keeps.repeat(len(counts)).repeat_interleave(counts.flatten())]
    return torch.cat(kept), shifted


def _grouped(sources: Int[Tensor, "n"], rows: Int[Tensor, "n"]) -> tuple[list[int], list[Int[Tensor, "_"]]]:
    images, counts = torch.unique_consecutive(sources, return_counts=True)
    return images.tolist(), list(rows.split(counts.tolist()))


def _counts_of_shifts(before: GoodImages, shifts: tuple[Shift, ...], grid: Grid) -> Int[Tensor, "u s"]:
    """How many tokens of each image shifted are candidates."""
    if not shifts:
        return torch.zeros(len(before.images), 0, dtype=torch.int64)
    if before.inside is None:
        counts = torch.tensor([int(np.prod(shift.grid(*grid))) for shift in shifts])
        return counts.repeat(len(before.images), 1)
    inside: Bool[Tensor, "u p"] = before.inside
    return torch.stack([shift.inside(shift.counted(inside, grid), grid).sum(dim=1) for shift in shifts], dim=1)
