"""Multivariate Gaussians of features: one for each position (PaDiM), or one for all (CutPaste's density)."""

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 0.01  # added to each variance by PaDiM


class PositionGaussians:
    """A Gaussian per position, from features that come in batches.

    Sums are kept, not features. They are taken about the first batch's mean, so that little is lost in float32.
    """

    def __init__(self) -> None:
        self._offset: Tensor | None = None
        self._sum, self._products, self._n = torch.empty(0), torch.empty(0), 0
        self.mean, self.precision = torch.empty(0), torch.empty(0)

    def add(self, features: Float[Tensor, "b c p"]) -> None:
        """Features of b images with c channels at p positions."""
        moved = features.permute(2, 0, 1)  # (p, b, c)
        if self._offset is None:
            self._offset = moved.mean(dim=1, keepdim=True)
            self._sum = torch.zeros_like(self._offset[:, 0])
            self._products = moved.new_zeros(len(moved), moved.shape[2], moved.shape[2])
        moved = moved - self._offset
        self._sum += moved.sum(dim=1)
        self._products.baddbmm_(moved.transpose(1, 2), moved)
        self._n += moved.shape[1]

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
        for one in covariance:  # in place: at 256 positions and 550 channels each copy is 310 MB
            one.copy_(torch.linalg.inv(one))
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
        features = features.cpu().double()  # not every accelerator knows float64
        self.mean = features.mean(dim=0)
        self.precision = torch.linalg.inv(ledoit_wolf_covariance(features))

    def distances(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Mahalanobis distances."""
        difference = features.cpu().double() - self.mean
        return ((difference @ self.precision) * difference).sum(dim=1).clamp(min=0).sqrt()


def ledoit_wolf_covariance(features: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """(1 - s) S + s m I, with S the covariance (divided by n), m its mean variance, and the best s from the samples.

    s = min(b, a) / a with a = |S - m I|^2 / d and b = sum_k |x_k x_k^T - S|^2 / (n^2 d), the x_k centred.
    """
    n, d = features.shape
    centred = features - features.mean(dim=0)
    covariance = centred.T @ centred / n
    mean_variance = covariance.diagonal().mean()
    away = (covariance.square().sum() - d * mean_variance**2) / d
    # |x x^T - S|^2 = |x|^4 - 2 x^T S x + |S|^2, and x^T S x sums to n |S|^2
    noise = (centred.square().sum(dim=1).square().sum() - n * covariance.square().sum()) / (n**2 * d)
    shrinkage = 0.0 if away <= 0 else float((noise.clamp(min=0) / away).clamp(max=1))
    shrunk = (1 - shrinkage) * covariance
    shrunk.diagonal().add_(shrinkage * mean_variance + 1e-12)
    return shrunk
