"""A Gaussian of normal tokens for each patch position: parts that lie alike differ little from place to place."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class PositionGaussians(nn.Module):
    """How unusual a token is for its place (PaDiM's idea, Defard et al., ICPR 2020; ours in code).

    A position's covariance is drawn from few images, one for each, so it is mixed with the mean covariance of all
    positions, which counts like as many images as there are channels.

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
        num_images, num_channels = len(tokens), len(self.channels)
        chosen = torch.randperm(tokens.shape[2] * tokens.shape[3], generator=generator)[:num_channels]
        self.channels.copy_(chosen)
        self.num_images.fill_(num_images)
        values = torch.cat([self._values(some.float()) for some in tokens.split(32)])  # (n, p, d)
        self.mean.copy_(values.mean(dim=0))
        covariances = torch.stack(
            [centred.T @ centred / (num_images - 1) for centred in (values - self.mean).unbind(dim=1)]
        )
        shrunk = torch.lerp(covariances, covariances.mean(dim=0), self.share_of_all)
        shrunk += self.RIDGE * torch.eye(num_channels, device=shrunk.device)
        identity = torch.eye(num_channels, device=shrunk.device).expand_as(shrunk)
        # with covariance L L^T, the inverse is W^T W for W = L^-1
        self.whitening.copy_(torch.linalg.solve_triangular(torch.linalg.cholesky(shrunk), identity, upper=False))

    @property
    def share_of_all(self) -> float:
        """Of the mean covariance of all positions, in that of one."""
        return len(self.channels) / (len(self.channels) + int(self.num_images))

    def forward(self, tokens: Float[Tensor, "b p l d"], fitted: bool = False) -> Float[Tensor, "b p"]:
        """Mahalanobis distances.

        Args:
            tokens: of whole images, at the size that the Gaussians were fitted at.
            fitted: the images are among those of :meth:`fit`; each is then left out of its own Gaussian.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            centred = self._values(tokens.float()) - self.mean
            whitened = torch.einsum("pij,bpj->bpi", self.whitening, centred)
            squares = whitened.square().sum(dim=-1)
        return self._without_themselves(squares).sqrt() if fitted else squares.sqrt()

    def _without_themselves(self, squares: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
        """Squared distances to mean and covariance of the other images, by the rule of Sherman and Morrison.

        Without the image x of n, the mean moves so far that x - mean grows by n / (n - 1), and the covariance loses
        (x - mean) (x - mean)^T n / ((n - 1) (n - 2)); what that does to the mean covariance of all positions is left
        out.
        """
        n = max(3, int(self.num_images))
        lost = (1 - self.share_of_all) * n / ((n - 1) * (n - 2))
        return (n / (n - 1)) ** 2 * squares / (1 - lost * squares).clamp(min=0.05)

    def _values(self, tokens: Float[Tensor, "b p l d"]) -> Float[Tensor, "b p c"]:
        """The chosen channels of tokens of length 1 per block, as large as a token's own entries."""
        unit = F.normalize(tokens, dim=-1) * tokens.shape[-1] ** 0.5
        return unit.flatten(2)[..., self.channels]
