"""A small set of vectors that covers a large one (greedy k-centre, as in PatchCore, Roth et al. 2022)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

PROJECTED_DIM = 64  # distances between tokens are kept well enough by a random projection, at a sixth of the time


def greedy_coreset(vectors: Float[Tensor, "n d"], size: int, generator: torch.Generator) -> Int[Tensor, "k"]:
    """Pick, again and again, the vector that is farthest from all picked ones.

    Rare normal patches are kept this way, which a random choice would miss.

    Args:
        vectors: to be covered.
        size: how many to pick; all are kept where there are no more.
        generator: of the random projection and the first pick.

    Returns:
        indices in the order of picking, min(size, n) of them.
    """
    if size >= len(vectors):
        return torch.arange(len(vectors))
    projection = torch.randn(vectors.shape[1], PROJECTED_DIM, generator=generator).to(vectors.device)
    projected = vectors @ projection / PROJECTED_DIM**0.5
    squares = projected.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    distances = torch.empty_like(squares)
    picked = int(torch.randint(len(vectors), (1,), generator=generator))
    chosen = []
    for _ in range(size):
        chosen.append(picked)
        # |a - b|^2 = |a|^2 - 2 ab + |b|^2, in place: this loop is bound by memory
        torch.mv(projected, projected[picked], out=distances)
        distances.mul_(-2).add_(squares).add_(squares[picked])
        torch.minimum(nearest, distances, out=nearest)
        nearest[picked] = -torch.inf  # a repeated vector must not be picked twice while others are left
        picked = int(nearest.argmax())
    return torch.tensor(chosen)
