"""The nearest neighbour of each token in a memory of unit tokens: a coarse product proposes, an exact one decides.

The coarse product is in the type that the device multiplies fastest. The similarities of the :data:`PROPOSED` tokens
that it finds most similar are then computed in float32, and the highest of them is taken. It falls short of the highest
of all by at most twice the rounding bound of the coarse product (:meth:`NearestSearch.rounding_bound`); on real tokens
it is the highest of all but once in some ten thousand times.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Product = Literal["fp32", "bf16", "int8"]

PROPOSED = 8  # tokens of the memory that are compared exactly
GROUP = 16  # columns of the coarse product of which the highest is looked at first
ROWS = 256  # queries at once on a processor, so that their products stay in its cache
SMALLEST_COARSE = 1024  # tokens; in a smaller memory the exact product costs no more than the detour
LOWEST = -1.0  # similarity there can be
NEVER = -(2**30)  # of a coarse product: below all others


def fastest_product(device: str) -> Product:
    """The type in which a device searches fastest: int8 on processors with VNNI, bf16 on GPUs that compute in it."""
    if device == "cpu":
        return "int8" if torch.cpu._is_vnni_supported() else "fp32"
    return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


class NearestSearch:
    """Finds the most similar token of a memory.

    Args:
        memory: (m, d) float32, of unit length.
        product: of the coarse comparison; ``fp32`` compares all tokens exactly.

    ``int8`` rounds the memory, less its mean token, to one grid. Subtracting the mean changes all similarities of a
    query alike, so that their order stays. It removes the large entries that all tokens of a ViT have in common, which
    would make the grid coarse.
    """

    def __init__(self, memory: Float[Tensor, "m d"], product: Product) -> None:
        self.memory = memory
        self.product: Product = product if len(memory) >= SMALLEST_COARSE else "fp32"
        if self.product == "fp32":
            return
        padded = torch.cat([memory, memory[: -len(memory) % GROUP]])  # (m', d): whole groups
        if self.product == "int8":
            padded = padded - memory.mean(dim=0)
            step = padded.abs().max().clamp(min=1e-12) / 127
            rounded = (padded / step).round()
            self._coarse = rounded.to(torch.int8).T.contiguous()  # (d, m')
            rounded = rounded * step
        else:
            rounded = padded.bfloat16()
            self._coarse = rounded.T.contiguous()  # (d, m')
        self._largest_error = (rounded.float() - padded).norm(dim=1).max()
        self._largest_norm = rounded.float().norm(dim=1).max()

    def __call__(
        self, queries: Float[Tensor, "n d"], excluded: Int[Tensor, "e"] | None = None
    ) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
        """The highest similarity of each query, and the number of the token that has it.

        Args:
            queries: float32, of unit length.
            excluded: numbers of the tokens that do not count. Where none is left, the similarity is -1.
        """
        if self.product == "fp32":
            similarity = queries @ self.memory.T  # (n, m)
            if excluded is not None:
                similarity = similarity.index_fill(1, excluded, LOWEST)
            best, index = similarity.max(dim=1)
            return best, index
        rows = ROWS if queries.device.type == "cpu" else max(1, len(queries))
        found = [self._by_proposals(chunk, excluded) for chunk in queries.split(rows)]
        similarities, indices = zip(*found, strict=True)
        return torch.cat(similarities), torch.cat(indices)

    def highest(self, queries: Float[Tensor, "n d"], count: int) -> Float[Tensor, "n k"]:
        """The ``count`` highest similarities of each query, descending; at most as many as the memory has tokens."""
        if self.product == "fp32" or (proposals := max(PROPOSED, 2 * count)) > len(self.memory) // GROUP:
            similarities = ((chunk @ self.memory.T).topk(count, dim=1).values for chunk in queries.split(ROWS))
        else:
            similarities = (
                self._compared(chunk, self._proposed(chunk, None, proposals)).topk(count, dim=1).values
                for chunk in queries.split(ROWS)
            )
        return torch.cat([*similarities])

    def _by_proposals(
        self, queries: Float[Tensor, "n d"], excluded: Int[Tensor, "e"] | None
    ) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
        proposed = self._proposed(queries, excluded, PROPOSED)  # (n, k)
        similarity = self._compared(queries, proposed)  # (n, k)
        if excluded is not None:  # fewer tokens than are proposed may be left
            is_excluded = torch.zeros(len(self.memory), dtype=torch.bool, device=excluded.device)
            is_excluded = is_excluded.index_fill(0, excluded, True)
            similarity = similarity.masked_fill(is_excluded[proposed], LOWEST)
        best, position = similarity.max(dim=1)
        return best, proposed.gather(1, position[:, None])[:, 0]

    def _proposed(
        self, queries: Float[Tensor, "n d"], excluded: Int[Tensor, "e"] | None, count: int
    ) -> Int[Tensor, "n k"]:
        """The tokens that the coarse product finds most similar."""
        num_tokens = len(self.memory)
        coarse = self._coarse_product(queries)  # (n, m')
        coarse[:, num_tokens:] = NEVER  # what fills the last group
        if excluded is not None:
            coarse.index_fill_(1, excluded, NEVER)
        return highest_columns(coarse, count) % num_tokens

    def _compared(self, queries: Float[Tensor, "n d"], numbers: Int[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Exact similarities with some tokens of the memory."""
        return torch.einsum("nd,nkd->nk", queries, F.embedding(numbers, self.memory))

    def _coarse_product(self, queries: Float[Tensor, "n d"]) -> Tensor:
        """(n, m') in a unit of its own for each row."""
        if self.product == "int8":
            rounded, _ = _rounded_rows(queries)
            return torch._int_mm(rounded.to(torch.int8), self._coarse)  # pyright: ignore[reportPrivateImportUsage]
        return queries.bfloat16() @ self._coarse

    def rounding_bound(self, queries: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """How far the coarse product of each query may be from the exact one; by the Cauchy-Schwarz inequality.

        With q = q' + e and m = m' + f, where q' and m' are rounded, |q m - q' m'| <= |e| |m| + |q'| |f|, and |m| is at
        most |m'| + |f|. A sum in bf16 is itself rounded once, by at most 2^-8 of its value.
        """
        if self.product == "fp32":
            return queries.new_zeros(len(queries))
        if self.product == "int8":
            rounded, step = _rounded_rows(queries)
            rounded = rounded * step
        else:
            rounded = queries.bfloat16().float()
        error, norm = (queries - rounded).norm(dim=1), rounded.norm(dim=1)
        bound = error * (self._largest_norm + self._largest_error) + norm * self._largest_error
        return bound + norm * self._largest_norm * 2**-8 if self.product == "bf16" else bound


def bytes_per_query(num_tokens: int, dim: int) -> int:
    """Memory of a search for each query, roughly: its row of the product, once more where it is copied, and proposals.

    Args:
        num_tokens: of the memory.
        dim: of a token.
    """
    return 4 * (2 * num_tokens + 2 * PROPOSED * dim)


def highest_columns(values: Tensor, count: int) -> Int[Tensor, "n k"]:
    """The columns of the ``count`` highest values of each row, in no order.

    They lie in the groups with the highest maxima, at most as many groups as columns; this is faster than to sort all.

    Args:
        values: (n, m), m a multiple of :data:`GROUP`.
        count: at most m / :data:`GROUP`.
    """
    groups = values.shape[1] // GROUP  # group g has the columns g, g + groups, g + 2 groups, ...
    maxima = values.view(len(values), GROUP, groups).amax(dim=1)  # (n, groups)
    highest = maxima.topk(count, dim=1, sorted=False).indices  # (n, k)
    offsets = torch.arange(GROUP, device=values.device)[:, None] * groups
    columns = (highest[:, None] + offsets).flatten(1)  # (n, GROUP k)
    return columns.gather(1, values.gather(1, columns).topk(count, dim=1, sorted=False).indices)


def _rounded_rows(queries: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n 1"]]:
    """Whole numbers in [-127, 127], and each row's step between two of them."""
    step = queries.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return (queries / step).round(), step
