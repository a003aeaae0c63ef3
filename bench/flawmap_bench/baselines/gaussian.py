"""Multivariate Gaussians of features: one for each position (PaDiM), or one for all (CutPaste's density)."""

import torch
from jaxtyping import Float
from sklearn.covariance import LedoitWolf
from torch import Tensor

RIDGE = 0.01  # added to each variance by PaDiM


class PositionGaussians:
    """A Gaussian per position, from features that come in batches.

    Sums are kept, not features. The first batch's mean is subtracted from them, so that float32 loses little.
    """

    def __init__(self) -> None:
        self._offset: Tensor | None = None
        self._sum, self._products, self._n = torch.empty(0), torch.empty(0), 0
        self.mean, self.precision = torch.empty(0), torch.empty(0)

    def add(self, features: Float[Tensor, "b c p"]) -> None:
        """Features of b images with c channels at p positions."""
        samples = features.permute(2, 0, 1)  # (p, b, c)
        if self._offset is None:
            self._offset = samples.mean(dim=1, keepdim=True)  # (p, 1, c)
            self._sum = torch.zeros_like(self._offset[:, 0])  # (p, c)
            self._products = samples.new_zeros(len(samples), samples.shape[2], samples.shape[2])  # (p, c, c)
        samples = samples - self._offset
        self._sum += samples.sum(dim=1)
        self._products.baddbmm_(samples.transpose(1, 2), samples)
        self._n += samples.shape[1]

    def finish(self, ridge: float = RIDGE) -> None:
        """Mean (p, c) and precision (p, c, c): the inverse of the unbiased covariance plus ``ridge`` I.

        Raises:
            ValueError: fewer than two images were added.
        """
        if self._n < 2 or self._offset is None:
            raise ValueError(f"a covariance needs two images, {self._n} were added")
        centre = self._sum / self._n
        covariance = self._products.baddbmm_(centre[:, :, None], centre[:, None, :], alpha=-self._n).div_(self._n - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(ridge)
        for matrix in covariance:  # in place: at 256 positions and 550 channels each copy is 310 MB
            matrix.copy_(torch.linalg.inv(matrix))
        self.mean, self.precision = centre + self._offset[:, 0], covariance
        self._products = torch.empty(0)

    def distances(self, features: Float[Tensor, "c p"]) -> Float[Tensor, "p"]:
        """Mahalanobis distance of one image's features at each position."""
        difference = (features.T - self.mean)[:, None, :]  # (p, 1, c)
        return (difference @ self.precision @ difference.transpose(1, 2)).flatten().clamp(min=0).sqrt()


class SharedGaussian:
    """One Gaussian with the shrunk covariance of Ledoit and Wolf (2004), for few samples of many dimensions.

    Args:
        features: (n, d), n of at least two.
    """

    def __init__(self, features: Float[Tensor, "n d"]) -> None:
        estimate = LedoitWolf().fit(features.cpu().double().numpy())
        self.mean = torch.from_numpy(estimate.location_)  # (d,)
        self.precision = torch.from_numpy(estimate.precision_)  # (d, d)

    def distances(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Mahalanobis distances, float64 on the processor: not every accelerator has float64."""
        difference = features.cpu().double() - self.mean
        return ((difference @ self.precision) * difference).sum(dim=1).clamp(min=0).sqrt()
