"""A small set of vectors that covers a large one (greedy k-centre, as in PatchCore, Roth et al. 2022)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CANDIDATES = 1024  # the farthest vectors; several picks are made among them before the other vectors are updated
ROWS = 512  # vectors whose distances are updated at once, so that their products stay in a core's cache
ROWS_ON_ACCELERATOR = 65_536  # at most 256 MB of products
PICKS = 64  # made on an accelerator before the host looks at them: each look waits for all that was computed so far


def greedy_coreset(
    vectors: Float[Tensor, "n d"],
    size: int,
    generator: torch.Generator,
    projection_dim: int = 64,
    device: str | torch.device | None = None,
) -> Int[Tensor, "k"]:
    """Pick, again and again, the vector whose direction is farthest from those of all picked ones.

    This keeps rare normal patches, which a random choice would miss.

    A pick never moves a vector farther from the picked set. As long as the farthest of some candidates is farther than
    every other vector was when the candidates were chosen, it is the farthest of all. The other vectors can wait and
    meet many picks in one matrix product, instead of being read from memory again for every pick.

    Args:
        vectors: of any length; their directions are to be covered.
        size: how many to pick; all are kept where there are no more.
        generator: of the random projection and the first pick.
        projection_dim: distances are measured after a random projection to so many dimensions, which keeps them well
            enough at a fraction of the time.
        device: to compute on; None: where the vectors lie.

    Returns:
        indices in the order of picking, min(size, n) of them.
    """
    if size >= len(vectors):
        return torch.arange(len(vectors))
    device = vectors.device if device is None else torch.device(device)
    projection = torch.randn(vectors.shape[1], projection_dim, generator=generator).to(device)  # (d, p)
    # Piece by piece: the vectors may be stored in half precision, and would not fit twice.
    unit = (F.normalize(piece.to(projection), dim=-1) for piece in vectors.split(ROWS))  # (rows, d) each
    projected = torch.cat([piece @ projection for piece in unit]) / projection_dim**0.5  # (n, p)
    squares = projected.square().sum(dim=1)  # (n,)
    nearest = torch.full_like(squares, torch.inf)
    first = torch.randint(len(vectors), (1,), generator=generator)
    chosen = new = first.to(device)
    while len(chosen) < size:
        _update_distances(nearest, projected, squares, new)
        farthest = nearest.topk(min(CANDIDATES + 1, len(vectors)))
        candidates = farthest.indices[:CANDIDATES]
        others = farthest.values[-1] if len(vectors) > CANDIDATES else nearest.new_tensor(-torch.inf)
        distances = farthest.values[:CANDIDATES].clone()
        picked = _pick_among(projected[candidates], squares[candidates], distances, others, size - len(chosen))
        new = candidates[picked]
        chosen = torch.cat([chosen, new])
    return chosen.cpu()


def _update_distances(
    nearest: Float[Tensor, "n"], projected: Float[Tensor, "n p"], squares: Float[Tensor, "n"], new: Int[Tensor, "m"]
) -> None:
    """Lower each squared distance to the nearest picked vector by the new picks, in place."""
    rows = ROWS if nearest.device.type == "cpu" else ROWS_ON_ACCELERATOR
    for start in range(0, len(nearest), rows):
        block = slice(start, start + rows)
        # |a - b|^2 = |a|^2 - 2 ab + |b|^2
        products = torch.addmm(squares[new], projected[block], projected[new].T, alpha=-2)  # (rows, m)
        torch.minimum(nearest[block], products.amin(dim=1) + squares[block], out=nearest[block])
    nearest.index_fill_(0, new, -torch.inf)  # a repeated vector must not be picked twice while others are left


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
