"""Resizing of maps and masks for evaluation, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.metrics.evaluation_size import at_evaluation_size

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def triangles(n_from: int, n_to: int) -> np.ndarray:
    """Weights (n_to, n_from) of each old row in each new one."""
    step = n_from / n_to
    centres = (np.arange(n_to)[:, None] + 0.5) * step
    weights = np.maximum(1 - np.abs(np.arange(n_from) + 0.5 - centres) / max(step, 1), 0)
    return weights / weights.sum(axis=1, keepdims=True)


@given(sizes, sizes, st.integers(0, 1000))
def test_maps_are_resized_by_triangles_and_masks_by_the_nearest_pixel(
    old: tuple[int, int], new: tuple[int, int], seed: int
):
    rng = np.random.default_rng(seed)
    anomaly_map, truth = rng.normal(size=old).astype(np.float32), rng.random(old) < 0.3
    resized, mask = at_evaluation_size(anomaly_map, truth, *new)
    assert resized.dtype == np.float32 and mask.dtype == np.bool_
    expected = triangles(old[0], new[0]) @ anomaly_map @ triangles(old[1], new[1]).T
    np.testing.assert_allclose(resized, expected, atol=1e-5)
    rows, columns = (2 * np.arange(new[0]) + 1) * old[0], (2 * np.arange(new[1]) + 1) * old[1]
    nearest = truth[np.ix_(rows // (2 * new[0]), columns // (2 * new[1]))]
    # where a centre lies just between two old pixels, rounding decides
    clear = (rows % (2 * new[0]) != 0)[:, None] & (columns % (2 * new[1]) != 0)
    assert np.array_equal(mask[clear], nearest[clear])


@given(sizes, sizes)
def test_a_constant_map_stays_constant(old: tuple[int, int], new: tuple[int, int]):
    resized, mask = at_evaluation_size(np.full(old, 0.3), np.ones(old, bool), *new)
    np.testing.assert_allclose(resized, 0.3, rtol=1e-6)
    assert mask.all() and mask.shape == new


def test_the_original_size_changes_nothing():
    anomaly_map = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    truth = anomaly_map > 1
    resized, mask = at_evaluation_size(anomaly_map, truth, 7, 9)
    assert np.array_equal(resized, anomaly_map) and np.array_equal(mask, truth)


def test_a_defect_smaller_than_the_step_can_vanish():
    truth = np.zeros((64, 64), bool)
    truth[0, 0] = True
    assert not at_evaluation_size(np.zeros((64, 64)), truth, 16, 16)[1].any()


def test_a_map_and_a_mask_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(5, 4\)"):
        at_evaluation_size(np.zeros((4, 5)), np.zeros((5, 4), bool), 2, 2)
