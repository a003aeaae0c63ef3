"""What similar-looking good images score: some kinds of good parts score higher than others."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flawmap.recipe.settings import ExpectationSettings

EXCLUDED = -2.0  # less similar than any


class NormalExpectation(nn.Module):
    """Remembers how good images look, and what evidence they show when their own tokens are not in the memory.

    A set of good parts is rarely of one kind. Where the kinds differ (cells of one crystal and of many, two views of a
    chest), those with more varied patches score higher when nothing is wrong with them, and a common threshold would
    find defects in the others only. What good images of similar appearance show is therefore subtracted.

    Args:
        settings: how many neighbours count, and how their weights rise.
        num_images: r remembered images; with 0 nothing is expected.
        dim: d of an appearance, see :class:`flawmap.memory.appearance.AppearanceAndTokens`.
        num_kinds: k of evidence.

    Attributes:
        products: p names, sorted, where the remembered images show products that have names.

    Buffers:
        appearances: (r, d) of unit length.
        tops, means: (r, k) of each kind of evidence, the mean over its highest values and over all values.
        shows: (p, r), which images show which product; not saved with the others. One row of all without products.
    """

    appearances: Float[Tensor, "r d"]
    tops: Float[Tensor, "r k"]
    means: Float[Tensor, "r k"]
    shows: Bool[Tensor, "p r"]

    def __init__(self, settings: ExpectationSettings, num_images: int, dim: int, num_kinds: int) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("appearances", torch.zeros(num_images, dim))
        self.register_buffer("tops", torch.zeros(num_images, num_kinds))
        self.register_buffer("means", torch.zeros(num_images, num_kinds))
        self.products: tuple[str, ...] = ()
        self.register_buffer("shows", torch.ones(1, num_images, dtype=torch.bool), persistent=False)

    @torch.no_grad()
    def remember(
        self, appearances: Float[Tensor, "r d"], tops: Float[Tensor, "r k"], means: Float[Tensor, "r k"]
    ) -> None:
        """Replace what is remembered."""
        self.appearances = F.normalize(appearances.float(), dim=-1)
        self.tops, self.means = tops.float(), means.float()
        self.label(())

    def label(self, products: Sequence[str]) -> None:
        """Say which product each remembered image shows; an empty sequence where products have no names."""
        self.products = tuple(sorted(set(products)))
        rows = [[product == one for one in products] for product in self.products] or [[True] * len(self.appearances)]
        self.shows = torch.tensor(rows, dtype=torch.bool, device=self.appearances.device)

    @property
    def labels(self) -> tuple[str, ...]:
        """The product that each remembered image shows; empty where products have no names."""
        return tuple(self.products[row] for row in self.shows.int().argmax(dim=0).tolist()) if self.products else ()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the buffers of another instance, of any number of images, to the last bit.

        Unit lengths are not computed again. The buffers are copied, because tensors read from a file need not be
        aligned in memory, and products would then be rounded differently.
        """
        self.appearances, self.tops, self.means = (state[name].clone() for name in ("appearances", "tops", "means"))
        self.label(())

    def of_images(self, kept: Bool[Tensor, "r"]) -> "NormalExpectation":
        """What some of the remembered images show."""
        fewer = NormalExpectation(self.settings, 0, self.appearances.shape[1], self.tops.shape[1])
        fewer.appearances, fewer.tops, fewer.means = self.appearances[kept], self.tops[kept], self.means[kept]
        fewer.products, fewer.shows = self.products, self.shows[:, kept]
        return fewer

    @property
    def num_neighbours(self) -> int:
        """How many remembered images a new one is compared with."""
        num_images = len(self.appearances)
        settings = self.settings
        return min(num_images, max(settings.min_neighbours, round(settings.neighbour_share * num_images)))

    def forward(
        self, appearances: Float[Tensor, "b d"], exclude: Bool[Tensor, "b r"] | None = None
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Weighted mean of ``tops`` and of ``means`` over the remembered images that look most similar.

        Weights rise from 0 at the first image that no longer counts. With a hard cut, two equally similar images could
        change places by rounding, and a score would jump from one runtime to another.

        Args:
            appearances: of new images.
            exclude: for each, True for the remembered images that do not count, because they are the same image.
        """
        if len(self.appearances) == 0:
            nothing = self.tops.new_zeros(appearances.shape[0], self.tops.shape[1])  # len() would fix it in an export
            return nothing, nothing
        with torch.autocast(appearances.device.type, enabled=False):
            similarity = F.normalize(appearances.float(), dim=-1) @ self.appearances.T  # (b, r)
        if exclude is not None:
            similarity = similarity.masked_fill(exclude, EXCLUDED)
        values, neighbours = similarity.topk(min(self.num_neighbours + 1, len(self.appearances)), dim=-1)  # (b, n)
        weights = self._weights(values)
        if exclude is not None:
            weights = weights.masked_fill(exclude.gather(1, neighbours), 0.0)
            weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
        weights = weights[..., None]
        return (weights * self.tops[neighbours]).sum(dim=1), (weights * self.means[neighbours]).sum(dim=1)

    def distances(self, appearances: Float[Tensor, "b d"]) -> Float[Tensor, "b p"]:
        """How unlike the most similar remembered image of each product new ones look: 1 - cosine similarity, in [0, 2].

        One column for all images where products have no names; above 2 of a product of which none is remembered.
        """
        with torch.autocast(appearances.device.type, enabled=False):
            similarity = F.normalize(appearances.float(), dim=-1) @ self.appearances.T  # (b, r)
        return 1 - similarity[:, None].masked_fill(~self.shows, EXCLUDED).amax(dim=-1)

    def _weights(self, values: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Weights of similarities in descending order, the last of which is the cut; equal where nothing is cut off."""
        if len(self.appearances) <= self.num_neighbours:
            return torch.full_like(values, 1 / values.shape[1])
        above = values - values[:, -1:]
        weights = (above / (self.settings.ramp * above[:, :1] + 1e-12)).clamp(max=1)
        weights = weights + 1e-9  # where all are equally similar, all count
        return weights / weights.sum(dim=1, keepdim=True)
