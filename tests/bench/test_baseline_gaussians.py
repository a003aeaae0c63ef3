"""Gaussians of features, compared with closed forms and with anomalib."""

import numpy as np
import pytest
import torch

from flawmap_bench.baselines.gaussian import PositionGaussians, SharedGaussian


def features_of(n: int = 30, channels: int = 5, positions: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(positions, channels, channels, generator=generator)
    drawn = torch.randn(n, channels, positions, generator=generator)
    return torch.einsum("pcd,ndp->ncp", mixing, drawn) + 100  # far from zero: sums of squares would lose digits


def fitted(features: torch.Tensor, batch: int) -> PositionGaussians:
    gaussians = PositionGaussians()
    for part in features.split(batch):
        gaussians.add(part)
    gaussians.finish()
    return gaussians


def test_padims_gaussian_is_the_unbiased_covariance_plus_a_ridge_whatever_the_batches():
    features = features_of()
    for batch in (1, 7, 30):
        gaussians = fitted(features, batch)
        for position in range(4):
            values = features[:, :, position].double().numpy()
            expected = np.linalg.inv(np.cov(values, rowvar=False) + 0.01 * np.eye(5))
            np.testing.assert_allclose(gaussians.mean[position].numpy(), values.mean(axis=0), rtol=1e-5)
            np.testing.assert_allclose(gaussians.precision[position].numpy(), expected, rtol=1e-2, atol=1e-3)


def test_the_distance_of_one_channel_is_the_number_of_deviations():
    features = torch.tensor([-1.0, 1.0, -1.0, 1.0])[:, None, None]  # variance 4 / 3
    distances = fitted(features, 2).distances(torch.tensor([[3.0]]))
    assert distances.item() == pytest.approx(3 / np.sqrt(4 / 3 + 0.01), rel=1e-5)


def test_padims_distances_are_those_of_anomalib_on_the_same_features():
    pytest.importorskip("anomalib")
    from anomalib.models.components import MultiVariateGaussian
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator

    features = features_of(channels=6, positions=12) / 50
    theirs = MultiVariateGaussian()
    stats = theirs.fit(features.reshape(30, 6, 3, 4))
    test = features_of(channels=6, positions=12)[:1] / 50 + 0.1 * torch.randn(1, 6, 12)
    expected = AnomalyMapGenerator.compute_distance(test.reshape(1, 6, 3, 4), stats).flatten()
    distances = fitted(features, 8).distances(test[0])
    torch.testing.assert_close(distances, expected, rtol=1e-2, atol=1e-3)  # anomalib adds another 1e-5 to the ridge


def test_one_image_has_no_covariance():
    gaussians = PositionGaussians()
    gaussians.add(torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="needs two images, 1 were added"):
        gaussians.finish()


def test_a_shared_gaussian_of_many_samples_measures_in_deviations():
    features = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 5.0]) + 7
    distances = SharedGaussian(features).distances(torch.tensor([[7.0, 7.0, 7.0], [10.0, 7.0, 7.0], [7.0, 7.0, 17.0]]))
    assert distances.tolist() == pytest.approx([0.0, 3.0, 2.0], abs=0.06)


def test_a_shared_gaussian_of_fewer_samples_than_dimensions_is_shrunk():
    features = torch.randn(10, 40, generator=torch.Generator().manual_seed(0))
    distances = SharedGaussian(features).distances(features)
    assert distances.isfinite().all() and 0.5 < float(distances.square().mean()) / 40 < 1.5
