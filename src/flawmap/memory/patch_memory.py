"""A memory of normal patch tokens: how far a token is from the nearest normal one, and which one that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flawmap.memory.search import NearestSearch, Product, fastest_product


@dataclass(frozen=True)
class Lookup:
    """Which normal token is nearest to each token, per block.

    Attributes:
        distances: 1 - cosine similarity, in [0, 2], float32.
        indices: of the nearest normal token in the memory.
    """

    distances: Float[Tensor, "b n l"]
    indices: Int[Tensor, "b n l"]


@dataclass(frozen=True)
class Nearest:
    """The nearest normal token of each token, per block.

    Attributes:
        distances: see :class:`Lookup`.
        tokens: the nearest normal tokens, of unit length.
        spacing: of the nearest normal tokens, see :class:`PatchMemory`.
    """

    distances: Float[Tensor, "b n l"]
    tokens: Float[Tensor, "b n l d"]
    spacing: Float[Tensor, "b n l"]


class PatchMemory(nn.Module):
    """Normal tokens of several blocks; each block has a memory of its own.

    Args:
        num_blocks: l.
        num_tokens: m, per block.
        dim: d of a token.
        precision: of the encoder. In ``int8``, its tokens are kept in int8 as well.

    Buffers:
        tokens: (l, m, d) as the encoder gave them, float16 or int8. They are normalised before anything is fitted to
            them or compared with them, so that storing them in half precision costs no accuracy. In int8 the largest
            entry of a token is 127; its length does not count.
        sources: (l, m) number of the training image that a token comes from, so that a training image can be judged
            without its own tokens.
        spacing: (l, m) how far a token lies from its nearest neighbours in the memory: the root of their mean distance
            in units of the block's mean. Where normal tokens lie far apart, a new one may be farther from all of them.
        mean, deviation: (l,) of normal tokens' distances, over the spacing, to the tokens of other images.

    Attributes:
        unit: (l, m, d) ``tokens`` normalised to unit length, float32; not saved.
    """

    tokens: Float[Tensor, "l m d"]
    unit: Float[Tensor, "l m d"]
    sources: Int[Tensor, "l m"]
    spacing: Float[Tensor, "l m"]
    mean: Float[Tensor, "l"]
    deviation: Float[Tensor, "l"]

    def __init__(self, num_blocks: int, num_tokens: int, dim: int, precision: Literal["fp32", "int8"] = "fp32") -> None:
        super().__init__()
        stored = torch.int8 if precision == "int8" else torch.float16
        self.register_buffer("tokens", torch.zeros(num_blocks, num_tokens, dim, dtype=stored))
        self.register_buffer("unit", torch.zeros(num_blocks, num_tokens, dim), persistent=False)
        self.register_buffer("sources", torch.zeros(num_blocks, num_tokens, dtype=torch.int32))
        self.register_buffer("spacing", torch.ones(num_blocks, num_tokens))
        self.register_buffer("mean", torch.zeros(num_blocks))
        self.register_buffer("deviation", torch.ones(num_blocks))
        self._searches: list[NearestSearch] | None = None  # made for the device when they are first needed
        self._sources_on_host: Tensor | None = None
        self.register_load_state_dict_pre_hook(PatchMemory._take_type_of)
        self.register_load_state_dict_post_hook(lambda memory, _: memory.normalise())

    # ---- scoring

    def nearest(self, tokens: Float[Tensor, "b n l d"], exclude: Int[Tensor, "b"] | None = None) -> Nearest:
        """Look tokens up and give the nearest normal ones.

        Args:
            tokens: of any length.
            exclude: for each image, the number of the training image whose tokens do not count.
        """
        return self.recalled(self.lookup(tokens, exclude))

    def lookup(self, tokens: Float[Tensor, "b n l d"], exclude: Int[Tensor, "b"] | None = None) -> Lookup:
        """Look tokens up; for the arguments see :meth:`nearest`."""
        b, n, _, _ = tokens.shape
        distances, indices = [], []
        columns = [] if exclude is None else self._columns_of(exclude)
        with torch.autocast(tokens.device.type, enabled=False):
            unit = F.normalize(tokens.float(), dim=-1)  # (b, n, l, d)
            for block, search in enumerate(self._searches_here()):
                if exclude is None:
                    similarity, index = search(unit[:, :, block].flatten(0, 1))  # (b n,) each
                else:
                    found = [search(image[:, block], own[block]) for image, own in zip(unit, columns, strict=True)]
                    similarity, index = (torch.cat(parts) for parts in zip(*found, strict=True))
                distances.append((1 - similarity).view(b, n))
                indices.append(index.view(b, n))
        return Lookup(torch.stack(distances, dim=2), torch.stack(indices, dim=2))

    def _columns_of(self, images: Int[Tensor, "b"]) -> list[list[Int[Tensor, "_"]]]:
        """For each training image and block, where its tokens are in the memory.

        Found on the host: how many they are is not known before, so that the host would wait for the device each time.
        """
        if self._sources_on_host is None or self.sources.device.type == "cpu":  # there it is no copy
            self._sources_on_host = self.sources.cpu()
        sources, device = self._sources_on_host, self.unit.device
        return [
            [(of_block == number).nonzero()[:, 0].to(device, non_blocking=True) for of_block in sources]
            for number in images.cpu()
        ]

    def recalled(self, lookup: Lookup) -> Nearest:
        """The normal tokens that a lookup has found, with their spacing."""
        blocks = torch.arange(len(self.unit), device=self.unit.device)  # (l,), beside indices of (b, n, l)
        return Nearest(lookup.distances, self.unit[blocks, lookup.indices], self.spacing[blocks, lookup.indices])

    def standardised(self, nearest: Nearest) -> Float[Tensor, "b n"]:
        """Mean over the blocks of spaced distances, in standard deviations of those of normal tokens."""
        return ((nearest.distances / nearest.spacing - self.mean) / self.deviation).mean(dim=-1)

    def _searches_here(self) -> list[NearestSearch]:
        if torch.compiler.is_exporting():  # a graph has one search, which does not depend on the machine
            return [NearestSearch(unit, "fp32") for unit in self.unit]
        if self._searches is None:
            self._searches = [NearestSearch(unit, fastest_product(self.unit.device.type)) for unit in self.unit]
        return self._searches

    def search_in(self, product: Product) -> None:
        """Search in this type until the memory changes, instead of the device's fastest; for comparisons."""
        self._searches = [NearestSearch(unit, product) for unit in self.unit]

    # ---- fitting

    def emptied(self, num_tokens: int) -> "PatchMemory":
        """A memory of the same kind and scale, on the same device, which is still to be filled with so many tokens."""
        other = PatchMemory(len(self.tokens), num_tokens, self.tokens.shape[2])
        other.tokens = other.tokens.to(self.tokens.dtype)
        other.mean, other.deviation = self.mean, self.deviation
        return other.to(self.unit.device)

    @torch.no_grad()
    def fill(
        self, candidates: Float[Tensor, "n l d"], sources: Int[Tensor, "n ..."], chosen: Int[Tensor, "l m"]
    ) -> None:
        """Take tokens of good images.

        Args:
            candidates: the tokens.
            sources: number of the image that each comes from, (n,), or (n, l) where that differs between the blocks.
            chosen: numbers of those that are kept, per block.
        """
        for block, numbers in enumerate(chosen):  # (m,)
            self.tokens[block] = self._as_stored(candidates[numbers, block].to(self.tokens.device))
            of_block = sources if sources.ndim == 1 else sources[:, block]
            self.sources[block] = of_block[numbers].to(self.sources)
        self.normalise()

    def _as_stored(self, tokens: Float[Tensor, "m d"]) -> Tensor:
        if self.tokens.dtype != torch.int8:
            return tokens.to(self.tokens.dtype)
        largest = tokens.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12)  # (m, 1)
        return (tokens.float() / largest * 127).round().to(torch.int8)

    @torch.no_grad()
    def normalise(self) -> None:
        """Set ``unit`` from ``tokens``, which have changed."""
        self.unit = F.normalize(self.tokens.float(), dim=-1)
        self._searches = self._sources_on_host = None

    @torch.no_grad()
    def fit_spacing(self, neighbours: int) -> None:
        """Measure how far each token of the memory lies from its nearest ``neighbours``."""
        for block, memory in enumerate(self.unit):  # (m, d)
            count = min(neighbours, len(memory) - 1)
            if count == 0:
                continue
            # The nearest token of each is itself and is left out.
            similarity = self._searches_here()[block].highest(memory, count + 1)[:, 1:]  # (m, neighbours)
            mean = (1 - similarity).mean(dim=1).clamp(min=1e-6)  # (m,)
            self.spacing[block] = (mean / mean.mean()).sqrt()

    @torch.no_grad()
    def fit_scale(self, of_others: Lookup, inside: Bool[Tensor, "b n"] | None = None) -> None:
        """Measure mean and deviation of normal tokens' spaced distances to the nearest token of another image.

        Args:
            of_others: of good images, each without its own tokens in the memory.
            inside: the tokens that count; None: all.
        """
        blocks = torch.arange(len(self.unit), device=self.unit.device)
        spaced = of_others.distances / self.spacing[blocks, of_others.indices]  # (b, n, l)
        if inside is not None:
            spaced = spaced[inside.to(spaced.device)][None]  # (1, m, l)
        self.mean.copy_(spaced.mean(dim=(0, 1)))
        self.deviation.copy_(spaced.flatten(0, 1).std(dim=0, correction=0).clamp(min=1e-6))

    # ---- moving, copying and loading

    def _apply(self, fn: Any, recurse: bool = True) -> "PatchMemory":
        self._searches = self._sources_on_host = None  # they belong to the device
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_searches": None,
            "_sources_on_host": None,
        }  # a copy shares the buffers and makes its own

    def _take_type_of(self, state_dict: Mapping[str, Any], prefix: str, *__: Any) -> None:
        """flawmap 0.1 saved tokens in float32, of unit length: they are kept as they are."""
        if isinstance(tokens := state_dict.get(f"{prefix}tokens"), Tensor):
            self.tokens = self.tokens.to(tokens.dtype)
