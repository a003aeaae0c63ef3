"""A small set of vectors that covers a large one (greedy k-centre, as in PatchCore, Roth et al. 2022)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from flawmap.engine.tensor_files import release_pages

CANDIDATES = 1024  # the farthest vectors; several picks are made among them before the other vectors are updated
RELEASE_EVERY = 32  # blocks of rows, after which vectors that are mapped from a file leave the memory
ROWS = 512  # vectors whose distances are updated at once, so that their products stay in a core's cache
ROWS_ON_ACCELERATOR = 65_536  # at most 256 MB of products
PICKS = 64  # made on an accelerator before the host looks at them: each look waits for all that was computed so far


class Coreset:
    """Picks, again and again, the vector whose direction is farthest from those of all picked ones.

    This keeps rare normal patches, which a random choice would miss.

    A pick never moves a vector farther from the picked set. As long as the farthest of some candidates is farther than
    every other vector was when the candidates were chosen, it is the farthest of all. The other vectors can wait and
    meet many picks in one matrix product, instead of being read from memory again for every pick.

    How far each vector is from the nearest pick is kept for the picks of each fold. To do without a fold, its picks are
    replaced by as many others: picking goes on from the picks that stay, at the cost of those that are new.

    Args:
        vectors: of any length; their directions are to be covered.
        generator: of the random projection and the first pick.
        projection_dim: distances are measured after a random projection to so many dimensions, which keeps them well
            enough at a fraction of the time.
        device: to compute on; None: where the vectors lie.
        folds: the fold of each vector, from 0; None: all are in one.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "n d"],
        generator: torch.Generator,
        projection_dim: int = 64,
        device: str | torch.device | None = None,
        folds: Int[Tensor, "n"] | None = None,
    ) -> None:
        device = vectors.device if device is None else torch.device(device)
        projection = torch.randn(vectors.shape[1], projection_dim, generator=generator).to(device)  # (d, p)
        # Piece by piece: the vectors may be stored in half precision, and would not fit twice.
        pieces = []
        for number, piece in enumerate(vectors.split(ROWS)):  # (rows, d)
            pieces.append(F.normalize(piece.to(projection), dim=-1) @ projection)
            if number % RELEASE_EVERY == 0:
                release_pages(vectors)
        self._projected = torch.cat(pieces) / projection_dim**0.5  # (n, p)
        self._squares = self._projected.square().sum(dim=1)  # (n,)
        none = torch.zeros(len(vectors), dtype=torch.int64, device=device)
        self._folds = none if folds is None else folds.to(none)  # (n,)
        num_folds = int(self._folds.max()) + 1
        self._nearest = self._squares.new_full((num_folds, len(vectors)), torch.inf)  # to the picks of each fold
        self._generator = generator
        self._picked = none[:0]

    def pick(self, size: int) -> Int[Tensor, "k"]:
        """The numbers of min(size, n) vectors in the order of picking; where there are no more, all in their order."""
        if size >= len(self._squares):
            self._picked = torch.arange(len(self._squares), device=self._squares.device)
        else:
            first = torch.randint(len(self._squares), (1,), generator=self._generator).to(self._folds.device)
            self._picked = self._go_on(self._nearest, self._folds, first, size)
        return self._picked.cpu()

    def without_fold(self, fold: int, size: int) -> Int[Tensor, "k"]:
        """What :meth:`pick` has picked but for a fold, and others in place of its picks; none is of the fold.

        Returns:
            numbers of vectors: ``size`` of them, or all that are not of the fold.
        """
        in_fold = self._folds == fold
        outside = (~in_fold).nonzero()[:, 0]
        if size >= len(outside):
            return outside.cpu()
        stays = self._picked[~in_fold[self._picked]]
        others = torch.arange(len(self._nearest), device=in_fold.device) != fold
        nearest = self._nearest[others].amin(dim=0).masked_fill(in_fold, -torch.inf)
        new = self._go_on(nearest[None], torch.zeros_like(self._folds), stays[:0], size - len(stays))
        return torch.cat([stays, new]).cpu()

    def _go_on(
        self, nearest: Float[Tensor, "f n"], folds: Int[Tensor, "n"], new: Int[Tensor, "m"], count: int
    ) -> Int[Tensor, "k"]:
        """Pick so many vectors, beginning with ``new``; ``nearest`` is updated in place."""
        picked = new
        while True:
            _update_distances(nearest, self._projected, self._squares, new, folds)
            if len(picked) >= count:
                return picked
            distance = nearest.amin(dim=0)  # (n,)
            farthest = distance.topk(min(CANDIDATES + 1, len(distance)))
            candidates = farthest.indices[:CANDIDATES]
            others = farthest.values[-1] if len(distance) > CANDIDATES else distance.new_tensor(-torch.inf)
            among = farthest.values[:CANDIDATES].clone()
            at_most = count - len(picked)
            chosen = _pick_among(self._projected[candidates], self._squares[candidates], among, others, at_most)
            new = candidates[chosen]
            picked = torch.cat([picked, new])


def greedy_coreset(
    vectors: Float[Tensor, "n d"],
    size: int,
    generator: torch.Generator,
    projection_dim: int = 64,
    device: str | torch.device | None = None,
) -> Int[Tensor, "k"]:
    """The numbers of min(size, n) vectors that cover all others, in the order of picking; see :class:`Coreset`."""
    return Coreset(vectors, generator, projection_dim, device).pick(size)


def _update_distances(
    nearest: Float[Tensor, "f n"],
    projected: Float[Tensor, "n p"],
    squares: Float[Tensor, "n"],
    new: Int[Tensor, "m"],
    folds: Int[Tensor, "n"],
) -> None:
    """Lower each squared distance to the nearest picked vector of each fold by the new picks, in place."""
    rows = ROWS if nearest.device.type == "cpu" else ROWS_ON_ACCELERATOR
    counts = [len(new)]  # of each fold; known without a look at the device where there is one fold
    if len(nearest) > 1:
        new = new[folds[new].argsort(stable=True)]
        counts = folds[new].bincount(minlength=len(nearest)).tolist()
    for start in range(0, nearest.shape[1], rows):
        block = slice(start, start + rows)
        # |a - b|^2 = |a|^2 - 2 ab + |b|^2
        products = torch.addmm(squares[new], projected[block], projected[new].T, alpha=-2)  # (rows, m)
        for fold, of_fold in enumerate(products.split(counts, dim=1)):
            if of_fold.shape[1]:
                least = of_fold.amin(dim=1) + squares[block]
                torch.minimum(nearest[fold, block], least, out=nearest[fold, block])
    nearest[folds[new], new] = -torch.inf  # a repeated vector must not be picked twice while others are left


def _pick_among(
    projected: Float[Tensor, "c p"],
    squares: Float[Tensor, "c"],
    nearest: Float[Tensor, "c"],
    others: Float[Tensor, ""],
    at_most: int,
    picks_per_look: int | None = None,
) -> Int[Tensor, "m"]:
    """Indices of the candidates that are picked before any other vector could be, at least one.

    Args:
        projected: the candidates.
        squares: their squared lengths.
        nearest: squared distance of each to the nearest picked vector; overwritten.
        others: no other vector is farther than this.
        at_most: number of picks that are still wanted.
        picks_per_look: picks that are made before those are dropped which another vector should have preceded. None:
            one on a processor, where a look costs nothing, and :data:`PICKS` elsewhere.
    """
    if picks_per_look is None:
        picks_per_look = 1 if nearest.device.type == "cpu" else PICKS
    picked: list[Tensor] = []  # (1,) each
    distances, kept = torch.empty_like(nearest), 0
    while kept == len(picked) < at_most:
        at_pick = []
        for _ in range(min(picks_per_look, at_most - len(picked))):
            farthest = nearest.argmax(keepdim=True)  # (1,)
            at_pick.append(nearest.index_select(0, farthest))
            picked.append(farthest)
            torch.mv(projected, projected.index_select(0, farthest)[0], out=distances)
            distances.mul_(-2).add_(squares).add_(squares.index_select(0, farthest))
            torch.minimum(nearest, distances, out=nearest)
            nearest.index_fill_(0, farthest, -torch.inf)
        # Distances fall from pick to pick, so all that follow the first one below ``others`` are below it as well.
        allowed = kept + int((torch.cat(at_pick) >= others).sum())
        kept = max(1, allowed)  # the first pick was the farthest of all when the candidates were chosen
    return torch.cat(picked[:kept])
