"""What a normal image that looks like this one scores: some kinds of good parts score higher than others."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class NormalExpectation(nn.Module):
    """Remembers, of training images, how they look and what evidence they show when they are not in the memory.

    A set of good parts is seldom of one kind. Where the kinds differ (cells of one crystal and of many, two views of a
    chest), those with more varied patches score higher when nothing is wrong with them, and a common threshold finds
    defects in the others only. What normal images of like appearance show is therefore taken away.

    Args:
        num_images: r remembered images; with 0 nothing is expected.
        dim: d of a [CLS] token.
        num_kinds: k of evidence.

    Buffers:
        appearances: (r, d) [CLS] tokens of unit length.
        tops, means: (r, k) of each kind of evidence, the mean over its highest values and over all values.
    """

    NEIGHBOUR_SHARE = 0.07  # of the remembered images
    MIN_NEIGHBOURS = 10

    appearances: Float[Tensor, "r d"]
    tops: Float[Tensor, "r k"]
    means: Float[Tensor, "r k"]

    def __init__(self, num_images: int, dim: int, num_kinds: int) -> None:
        super().__init__()
        self.register_buffer("appearances", torch.zeros(num_images, dim))
        self.register_buffer("tops", torch.zeros(num_images, num_kinds))
        self.register_buffer("means", torch.zeros(num_images, num_kinds))

    @torch.no_grad()
    def remember(self, cls: Float[Tensor, "r d"], tops: Float[Tensor, "r k"], means: Float[Tensor, "r k"]) -> None:
        """Replace what is remembered."""
        self.appearances = F.normalize(cls.float(), dim=-1)
        self.tops, self.means = tops.float(), means.float()

    @property
    def num_neighbours(self) -> int:
        """How many remembered images a new one is compared with."""
        num_images = len(self.appearances)
        return min(num_images, max(self.MIN_NEIGHBOURS, round(self.NEIGHBOUR_SHARE * num_images)))

    def forward(self, cls: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Mean of ``tops`` and of ``means`` over the remembered images that look most alike."""
        if len(self.appearances) == 0:
            nothing = self.tops.new_zeros(len(cls), self.tops.shape[1])
            return nothing, nothing
        with torch.autocast(cls.device.type, enabled=False):
            similarity = F.normalize(cls.float(), dim=-1) @ self.appearances.T
        alike = similarity.topk(self.num_neighbours, dim=-1).indices  # (b, neighbours)
        return self.tops[alike].mean(dim=1), self.means[alike].mean(dim=1)
