"""F1 and region precision at a fixed threshold: closed forms, scikit-learn, scipy, the bootstrap image by image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import f1_score

from flawmap.metrics.bootstrap import NOTHING, percentile_interval, resample_weights
from flawmap.metrics.fixed_threshold import (
    F1_AT_THRESHOLD,
    REGION_PRECISION,
    Decisions,
    decisions_at,
    f1_of_decisions,
    region_precision,
)
from flawmap.metrics.image_metrics import IMAGE_METRICS, image_estimates, image_estimates_by
from flawmap.metrics.pixel_pool import PIXEL_METRICS, PixelPool, PixelPools, count_pixels


def test_decisions_are_counted_and_a_score_at_the_threshold_is_not_above_it():
    scores = np.array([[0.1, 0.5], [0.6, 0.9]])
    labels = np.array([[False, True], [False, True]])
    assert decisions_at(scores, labels, 0.5) == Decisions(1, 1, 1, n_regions=1, n_on_defects=1)
    assert decisions_at(scores, labels, 0.0) == Decisions(2, 2, 0, n_regions=1, n_on_defects=1)
    assert decisions_at(scores, labels, 1.0) == Decisions(0, 0, 2, n_regions=0, n_on_defects=0)


def test_regions_that_touch_at_a_corner_are_one_and_one_pixel_in_a_defect_suffices():
    above = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]], float)
    truth = np.zeros((3, 5), bool)
    truth[1, 1:3] = True
    assert decisions_at(above, truth, 0.5) == Decisions(hits=1, false_alarms=3, misses=1, n_regions=3, n_on_defects=1)


def test_what_lies_outside_of_the_region_of_interest_is_no_region_and_joins_none():
    above = np.array([[1, 1, 1, 0, 1]], float)
    truth, inside = np.array([[0, 1, 1, 0, 0]], bool), np.array([[1, 0, 1, 1, 0]], bool)
    expected = Decisions(hits=1, false_alarms=1, misses=0, n_regions=2, n_on_defects=1)
    assert decisions_at(above, truth, 0.5, inside) == expected
    assert count_pixels(above, truth, 0.5, inside).decisions == expected


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_region_precision_is_that_of_scipys_labels(seed: int, threshold: float):
    generator = np.random.default_rng(seed)
    maps, pool = [(generator.random((7, 9)), generator.random((7, 9)) > 0.8) for _ in range(3)], PixelPool()
    n_regions = n_on_defects = 0
    for anomaly_map, truth in maps:
        pool.add(count_pixels(anomaly_map, truth, threshold))
        labels, count = ndimage.label(anomaly_map.astype(np.float32) > threshold, np.ones((3, 3)))
        n_regions += count
        n_on_defects += len(set(labels[truth].tolist()) - {0})
    found = pool.values().get(REGION_PRECISION)
    assert found == (pytest.approx(n_on_defects / n_regions) if n_regions else None)


def test_region_precision_in_closed_form():
    assert region_precision(np.array([[4.0, 1.0], [2.0, 2.0], [3.0, 0.0]])).tolist() == [0.25, 1.0, 0.0]
    assert np.isnan(region_precision(np.array([0.0, 0.0])))


def test_region_precision_has_an_interval_from_resampled_images():
    maps, pool = random_maps(14), PixelPool()
    rows = []
    for anomaly_map, truth in maps:
        pool.add(count_pixels(anomaly_map, truth, 1.2))
        decided = decisions_at(anomaly_map, truth, 1.2)
        rows.append((decided.n_regions, decided.n_on_defects))
    found = pool.estimates(np.random.default_rng(5), 50)[REGION_PRECISION]
    has_defect, counts = np.array([truth.any() for _, truth in maps]), np.array(rows, float)
    drawn = np.concatenate([w @ counts for w in resample_weights(has_defect, 50, np.random.default_rng(5))])
    assert found.value == pytest.approx(counts[:, 1].sum() / counts[:, 0].sum())
    assert (found.low, found.high) == pytest.approx(percentile_interval(drawn[:, 1] / drawn[:, 0]), abs=1e-9)


@pytest.mark.parametrize(
    ("decisions", "f1"),
    [([3, 0, 0], 1.0), ([0, 5, 2], 0.0), ([1, 1, 1], 0.5), ([2, 1, 3], 0.5), ([0, 0, 4], 0.0)],
)
def test_f1_of_decisions_in_closed_form(decisions: list[int], f1: float):
    assert f1_of_decisions(np.array(decisions, np.float64)) == f1


def test_f1_is_undefined_where_nothing_is_anomalous():
    assert np.isnan(f1_of_decisions(np.array([[0.0, 0, 0], [0, 7, 0]]))).all()


scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


@given(scored, st.integers(-1, 6))
def test_f1_is_scikit_learns(pairs: list[tuple[int, bool]], threshold: int):
    scores, labels = np.array([score for score, _ in pairs], float), np.array([label for _, label in pairs])
    expected = f1_score(labels, scores > threshold, zero_division=0)
    found = image_estimates(scores, labels, np.random.default_rng(0), 10, verdicts=np.asarray(scores) > threshold)
    assert found[F1_AT_THRESHOLD].value == pytest.approx(expected, abs=1e-12)
    of_pixels = count_pixels(scores[None], labels[None], float(threshold))
    pool = PixelPool()
    pool.add(of_pixels)
    assert pool.values()[F1_AT_THRESHOLD] == pytest.approx(expected, abs=1e-12)


def random_maps(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(1)
    maps = []
    for number in range(n):
        truth = np.zeros((6, 5), bool)
        truth[1:3, 1:4] = number % 2
        maps.append((generator.normal(size=(6, 5)) + truth, truth))
    return maps


def test_the_pool_gives_f1_of_all_pixels_together_and_its_interval_from_resampled_images():
    maps, pool = random_maps(14), PixelPool()
    for anomaly_map, truth in maps:
        pool.add(count_pixels(anomaly_map, truth, 0.7))
    truths = np.concatenate([truth.ravel() for _, truth in maps])
    above = np.concatenate([anomaly_map.ravel() for anomaly_map, _ in maps]) > 0.7
    estimate = pool.estimates(np.random.default_rng(5), 50)[F1_AT_THRESHOLD]
    assert estimate.value == pytest.approx(f1_score(truths, above), abs=1e-12)
    draws = []
    has_defect = np.array([truth.any() for _, truth in maps])
    for weights in resample_weights(has_defect, 50, np.random.default_rng(5)):
        for row in weights.astype(int):
            labels = np.concatenate([np.tile(truth.ravel(), k) for (_, truth), k in zip(maps, row, strict=True)])
            flags = np.concatenate([np.tile(m.ravel() > 0.7, k) for (m, _), k in zip(maps, row, strict=True)])
            draws.append(f1_score(labels, flags, zero_division=0))
    assert (estimate.low, estimate.high) == pytest.approx(percentile_interval(np.array(draws)), abs=1e-9)


def test_merged_pools_have_the_f1_of_their_images():
    pools, together = PixelPools(), PixelPool()
    for number, (anomaly_map, truth) in enumerate(random_maps(8)):
        image = count_pixels(anomaly_map, truth, 0.5)
        pools.add(image, "hole" if number % 4 == 1 else "dent")
        together.add(image)
    assert pools.everything().values()[F1_AT_THRESHOLD] == together.values()[F1_AT_THRESHOLD]
    assert {F1_AT_THRESHOLD in pool.values() for pool in pools.by_kind().values()} == {True}


def test_without_a_threshold_on_every_image_there_is_no_f1():
    (anomaly_map, truth), pool = random_maps(2)[1], PixelPool()
    pool.add(count_pixels(anomaly_map, truth, 0.5))
    pool.add(count_pixels(anomaly_map, truth))
    assert list(pool.values()) == list(PIXEL_METRICS)
    labels = np.array([False, True])
    assert list(image_estimates(np.arange(2.0), labels, np.random.default_rng(0), 5)) == list(IMAGE_METRICS)


def test_a_missing_class_leaves_f1_undefined():
    found = image_estimates(np.arange(3.0), np.zeros(3, bool), np.random.default_rng(0), 5, verdicts=np.arange(3.0) > 1)
    assert found[F1_AT_THRESHOLD] == NOTHING


def test_the_f1_of_a_kind_is_that_of_its_images_and_the_good_ones():
    scores, labels = np.array([0.0, 2.0, 3.0, 1.0]), np.array([False, False, True, True])
    found = image_estimates_by([None, None, "hole", "dent"], scores, labels, 0, 5, verdicts=np.asarray(scores) > 1.5)
    assert found["hole"][F1_AT_THRESHOLD].value == pytest.approx(2 / 3)  # one hit, one false alarm
    assert found["dent"][F1_AT_THRESHOLD].value == 0
