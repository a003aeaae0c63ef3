"""A Gaussian of normal tokens for each patch position: parts that lie alike differ little from place to place."""

from math import isqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

MAX_CHANNELS = 100
MAX_ENTRIES = 16_000_000  # of all positions' whitenings, 64 MB: larger images have more positions, and fewer channels


def num_channels(num_positions: int, num_entries: int) -> int:
    """How many of the ``num_entries`` entries of a patch's tokens are used."""
    return max(1, min(MAX_CHANNELS, num_entries, isqrt(MAX_ENTRIES // num_positions)))


class PositionGaussians(nn.Module):
    """How unusual a token is for its place (PaDiM's idea, Defard et al., ICPR 2020; ours in code).

    A position's covariance is drawn from few images, one token from each, so it is mixed with the mean covariance of
    all positions, which counts like as many images as there are channels.

    Args:
        num_positions: p, patches of an image.
        num_channels: d of the entries of all blocks' tokens, chosen at random.

    Buffers:
        channels: (d,) their numbers in a token's blocks laid end to end.
        mean: (p, d) of normal tokens.
        whitening: (p, d, d) W with W^T W the inverse of the covariance.
        num_images: n, how many images both come from.
    """

    RIDGE = 0.01  # added to the covariances' diagonal; a token's entries have a mean square of 1

    channels: Int[Tensor, "d"]
    mean: Float[Tensor, "p d"]
    whitening: Float[Tensor, "p d d"]
    num_images: Int[Tensor, ""]

    def __init__(self, num_positions: int, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("channels", torch.zeros(num_channels, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(num_positions, num_channels))
        self.register_buffer("whitening", torch.zeros(num_positions, num_channels, num_channels))
        self.register_buffer("num_images", torch.tensor(0))

    @torch.no_grad()
    def fit(self, tokens: Float[Tensor, "n p l d"], generator: torch.Generator) -> None:
        """Take mean and covariance of each position from normal images.

        Args:
            tokens: of n images, two at least, of any length; float16 will do.
            generator: chooses the channels.
        """
        count, chosen = len(tokens), len(self.channels)
        self.channels.copy_(torch.randperm(tokens.shape[2] * tokens.shape[3], generator=generator)[:chosen])
        self.num_images.fill_(count)
        values = torch.cat([self._values(some.float()) for some in tokens.split(32)])  # (n, p, d)
        self.mean.copy_(values.mean(dim=0))
        covariances = torch.stack([centred.T @ centred / (count - 1) for centred in (values - self.mean).unbind(1)])
        identity = torch.eye(chosen, device=covariances.device)
        shrunk = torch.lerp(covariances, covariances.mean(dim=0), self.share_of_all) + self.RIDGE * identity
        # of the covariance L L^T the inverse is W^T W with W = L^-1
        lower = torch.linalg.cholesky(shrunk)
        self.whitening.copy_(torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False))

    @property
    def share_of_all(self) -> float:
        """Of the mean covariance of all positions, in that of one."""
        return len(self.channels) / (len(self.channels) + int(self.num_images))

    def forward(
        self, tokens: Float[Tensor, "b p l d"], own: Float[Tensor, "b p l d"] | None = None
    ) -> Float[Tensor, "b p"]:
        """Mahalanobis distances.

        Args:
            tokens: of whole images, at the size that the Gaussians were fitted at.
            own: tokens of the images of :meth:`fit` that these are, or were made from; each is then judged by the
                others alone.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            away = self._values(tokens.float()) - self.mean
            if own is None:
                return self._whitened(away).square().sum(dim=-1).sqrt()
            return self._without(self._values(own.float()) - self.mean, away).sqrt()

    def _without(self, own: Float[Tensor, "b p d"], away: Float[Tensor, "b p d"]) -> Float[Tensor, "b p"]:
        """Squared distances by the other images alone, by the rule of Sherman and Morrison.

        Without one of n images, which lay ``own`` away from the mean, the mean moves by -own / (n - 1), and the
        covariance, still divided by n - 1, loses own own^T n / (n - 1)^2. What that does to the mean covariance of all
        positions is left out.
        """
        count = int(self.num_images)
        first, second = self._whitened(away + own / (count - 1)), self._whitened(own)
        lost = (1 - self.share_of_all) * count / (count - 1) ** 2
        both = (first * second).sum(dim=-1)
        return first.square().sum(dim=-1) + lost * both**2 / (1 - lost * second.square().sum(dim=-1))

    def _whitened(self, away: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        return torch.einsum("pij,bpj->bpi", self.whitening, away)

    def _values(self, tokens: Float[Tensor, "b p l d"]) -> Float[Tensor, "b p c"]:
        """The chosen entries of tokens that are of length 1 in each block, as large as a token's own entries."""
        unit = F.normalize(tokens, dim=-1) * tokens.shape[-1] ** 0.5
        return unit.flatten(2)[..., self.channels]
