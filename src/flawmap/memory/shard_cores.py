"""Tokens that cover those of many images, chosen shard by shard: a core of each shard, then one of all cores.

No process then holds more tokens than those of a shard, or of some cores. Cores are composable: what covers all cores
covers all tokens nearly as well.

Let OPT be the smallest radius with which any k centres cover all tokens. The greedy choice of k tokens from any part of
them, :class:`flawmap.memory.coreset.Coreset`, leaves none of that part farther than 2 OPT from the nearest chosen one:
otherwise there would be k + 1 tokens that lie more than 2 OPT from each other, and two of them would have the same
nearest centre (Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985). A token is within 2 OPT of
its shard's core, and what it is near to there is within 2 OPT of what is chosen from all cores. So the radius is at
most 4 OPT, where one greedy choice from all tokens guarantees 2 OPT (Malkomes et al., "Fast distributed k-center
clustering with outliers on massive data", NIPS 2015). Each further round of cores of cores adds 2 OPT. Distances are
those after the random projection, which is the same in all rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flawmap.engine.sampling import evenly_spread
from flawmap.engine.tensor_files import release_pages
from flawmap.memory.coreset import Coreset


@dataclass(frozen=True)
class Choosing:
    """How tokens are chosen.

    Attributes:
        size: k, tokens of each block.
        fold_of_image: the fold of each image; None: there are none.
        projection_dim: see :class:`flawmap.memory.coreset.Coreset`.
        seed: of the projection and of the first pick.
        device: to compute on.
    """

    size: int
    fold_of_image: Int[Tensor, "i"] | None
    projection_dim: int
    seed: int
    device: str

    def of_part(self, images: range) -> "Choosing":
        """The same for some of the images, which are numbered from 0."""
        folds = self.fold_of_image
        return self if folds is None else replace(self, fold_of_image=folds[images.start : images.stop])

    def choose(
        self, tokens: Float[Tensor, "n l d"], sources: Int[Tensor, "n ..."]
    ) -> tuple[list[Int[Tensor, "_"]], list[list[Int[Tensor, "_"]]]]:
        """Numbers of the tokens of each block that cover all others best; and for each fold, those that do without it.

        Args:
            tokens: of l blocks.
            sources: number of the image that each is of, (n,), or (n, l) where that differs between the blocks.
        """
        folds = None if self.fold_of_image is None else self.fold_of_image[sources.long()]  # (n,) or (n, l)
        num_folds = 0 if folds is None else int(folds.max()) + 1
        chosen, without = [], [[] for _ in range(num_folds)]
        for block in range(tokens.shape[1]):
            generator = torch.Generator().manual_seed(self.seed)
            of_block = folds if folds is None or folds.ndim == 1 else folds[:, block]
            coreset = Coreset(tokens[:, block], generator, self.projection_dim, self.device, of_block)
            chosen.append(coreset.pick(self.size))
            for fold, of_blocks in enumerate(without):
                of_blocks.append(coreset.without_fold(fold, self.size))
        return chosen, without


@dataclass(frozen=True)
class Core:
    """Tokens of each block that cover those they were chosen from. A row holds no more than one token of each block.

    Attributes:
        tokens: float16.
        sources: int32, number of the image that each is of.
    """

    tokens: Float[Tensor, "n l d"]
    sources: Int[Tensor, "n l"]

    @classmethod
    def of(cls, tokens: Float[Tensor, "n l d"], sources: Int[Tensor, "n ..."], choosing: Choosing) -> "Core":
        """A core of some tokens: those chosen from all, and those that take their place without each of the folds.

        So what covers the cores also covers the tokens outside of a fold when the fold's are left out. It has at most
        twice as many rows as tokens are chosen, or all tokens in their order where there are no more.
        """
        num_tokens, num_blocks, _ = tokens.shape
        sources = sources[:, None].expand(-1, num_blocks) if sources.ndim == 1 else sources
        chosen, without = choosing.choose(tokens, sources)
        kept = [torch.cat([numbers, *(of[b] for of in without)]).unique() for b, numbers in enumerate(chosen)]
        rows = torch.stack([_filled(numbers, max(map(len, kept)), num_tokens) for numbers in kept], dim=1)  # (m, l)
        found = torch.stack([tokens[of_block, block] for block, of_block in enumerate(rows.T)], dim=1)
        return cls(found, sources.gather(0, rows).int())

    @classmethod
    def joined(cls, cores: "Sequence[Core]", limit: int, choosing: Choosing) -> "Core":
        """All rows of some cores; as long as they are more than ``limit``, as many cores as fit become one first."""
        while len(cores) > 1 and sum(len(core.tokens) for core in cores) > limit:
            groups = _groups([len(core.tokens) for core in cores], limit)
            cores = [cls.of(*_rows_of(cores[group]), choosing) for group in groups]
        return cls(*_rows_of(cores))


def _filled(numbers: Int[Tensor, "_"], count: int, num_tokens: int) -> Int[Tensor, "m"]:
    """So many numbers, ascending: those given, and others below ``num_tokens``, evenly spread."""
    others = torch.ones(num_tokens, dtype=torch.bool).index_fill(0, numbers, False).nonzero()[:, 0]
    added = others[evenly_spread(len(others), count - len(numbers))] if count > len(numbers) else others[:0]
    return torch.cat([numbers, added]).sort().values


def _groups(sizes: Sequence[int], limit: int) -> list[slice]:
    """As many consecutive cores as fit, again and again, at least two together where there are two."""
    ends, total = [0], 0
    for number, size in enumerate(sizes):
        if total + size > limit and number - ends[-1] > 1:
            ends.append(number)
            total = 0
        total += size
    ends.append(len(sizes))
    return [slice(start, end) for start, end in pairwise(ends)]


def _rows_of(cores: Sequence[Core]) -> tuple[Float[Tensor, "n l d"], Int[Tensor, "n l"]]:
    rows = torch.cat([core.tokens for core in cores]), torch.cat([core.sources for core in cores])
    for core in cores:
        release_pages(core.tokens)
    return rows
