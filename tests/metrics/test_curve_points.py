"""Points of curves against scikit-learn's and against overlaps counted region by region."""

import numpy as np
import pytest
from scipy.ndimage import label
from sklearn.metrics import precision_recall_curve, roc_auc_score

from assertions import quantised_scores
from flawmap.metrics.curve_points import MAX_POINTS, overlap_points, precision_recall_points, roc_points
from flawmap.metrics.pixel_pool import PixelPool, count_pixels


def area(points: np.ndarray) -> float:
    return float(np.trapezoid(points[:, 1], points[:, 0]))


def two_maps() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A good and an anomalous map; the second has two regions that touch at no corner."""
    rng = np.random.default_rng(9)
    maps = [quantised_scores(rng.random((20, 30))) for _ in range(2)]
    truth = np.zeros((20, 30), bool)
    truth[2:6, 3:9] = truth[12:14, 20:23] = True
    maps[1] = quantised_scores(maps[1] + 0.4 * truth)
    return maps, [np.zeros_like(truth), truth]


def test_a_long_curve_is_thinned_and_keeps_its_area() -> None:
    rng = np.random.default_rng(3)
    normal, anomalous = rng.integers(0, 9, 20_000).astype(float), rng.integers(0, 9, 20_000) * np.linspace(0, 1, 20_000)
    points = roc_points(normal, anomalous)
    assert len(points) <= MAX_POINTS
    exact = np.sum(anomalous * (np.cumsum(normal) - normal / 2)) / normal.sum() / anomalous.sum()
    assert area(points) == pytest.approx(exact, abs=1e-3)


def test_overlap_is_cut_at_its_limit_in_the_middle_of_a_step() -> None:
    # scores 0, 1, 2: 5, 4 and 1 normal pixels; half a region at 2, the other half at 1
    points = overlap_points(np.array([5.0, 4.0, 1.0]), np.array([0.0, 0.5, 0.5]), 1)
    assert points == pytest.approx(np.array([[0, 0], [0.1, 0.5], [0.3, 0.75]]))


def test_precision_begins_at_the_highest_score_and_ends_where_all_is_found() -> None:
    # scores 0 to 3: 6, 3, 1 and 0 normal pixels, 0, 1, 2 and 1 anomalous ones
    points = precision_recall_points(np.array([6.0, 3, 1, 0]), np.array([0.0, 1, 2, 1]))
    assert points == pytest.approx(np.array([[0.25, 1], [0.75, 0.75], [1, 0.5]]))


def test_points_of_precision_and_recall_are_scikit_learns() -> None:
    rng = np.random.default_rng(4)
    normal, anomalous = rng.integers(0, 4, 100).astype(float), rng.integers(1, 3, 100).astype(float)
    scores = np.repeat(np.arange(100), (normal + anomalous).astype(int))
    labels = np.concatenate([np.arange(int(n + a)) < a for n, a in zip(normal, anomalous, strict=True)])
    precision, recall, _ = precision_recall_curve(labels, scores)
    expected = np.stack([recall, precision], axis=1)[::-1][1:]  # without its made-up point (0, 1)
    assert precision_recall_points(normal, anomalous) == pytest.approx(expected, abs=1e-12)


def test_curves_of_a_pool_are_those_of_all_its_pixels_and_regions() -> None:
    maps, masks = two_maps()
    pool = PixelPool()
    for anomaly_map, truth in zip(maps, masks, strict=True):
        pool.add(count_pixels(anomaly_map, truth))
    curves = pool.curves()
    values, labels = np.concatenate([v.ravel() for v in maps]), np.concatenate([m.ravel() for m in masks])
    assert curves is not None and curves.n_images == 2
    assert curves.anomalous_share == 30 / 1200
    assert area(curves.roc) == pytest.approx(roc_auc_score(labels, values), abs=2e-3)
    precision, recall, _ = precision_recall_curve(labels, values)
    for x, y in curves.precision_recall:
        assert np.hypot(recall - x, precision - y).min() < 1e-9
    regions, n = label(masks[1], np.ones((3, 3)))
    assert n == 2
    rates = np.array([(values[~labels] >= level).mean() for level in np.unique(values)])
    overlaps = [np.mean([(maps[1][regions == i] >= level).mean() for i in (1, 2)]) for level in np.unique(values)]
    for x, y in curves.overlap[1:-1]:  # the last one lies in the middle of a step
        assert np.hypot(rates - x, np.array(overlaps) - y).min() < 1e-9
    assert area(curves.overlap) / 0.3 == pytest.approx(pool.values()["aupro_30"], abs=2e-3)


def test_a_pool_without_anomalous_pixels_has_no_curves() -> None:
    pool = PixelPool()
    assert pool.curves() is None
    pool.add(count_pixels(np.ones((3, 3)), np.zeros((3, 3), bool)))
    assert pool.curves() is None
