"""Poisson image interpolation: the solver against dense and sparse ones, and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse import linalg

from flawmap_bench.simulators.fpi import ForeignPatchInterpolation
from flawmap_bench.simulators.pii import PoissonImageInterpolation, interpolate_gradients, solve_poisson


def blobs(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Smooth coloured spots, uint8."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a + p) * np.cos(columns / b) for a, b, p in generator.uniform(3, 9, (3, 3))]
    return (128 + 90 * np.stack(waves, axis=2)).astype(np.uint8)


def by_hand(image: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """The mixed-gradient equations of one channel, written out neighbour by neighbour, solved sparse."""
    height, width = image.shape
    unknown = {(i, j): n for n, (i, j) in enumerate(np.ndindex(height - 2, width - 2))}
    matrix, right = sparse.lil_matrix((len(unknown), len(unknown))), np.zeros(len(unknown))
    for (i, j), number in unknown.items():
        row, column = i + 1, j + 1
        for other_row, other_column in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            own = (1 - share) * (image[row, column] - image[other_row, other_column])
            foreign = share * (second[row, column] - second[other_row, other_column])
            matrix[number, number] += 1
            right[number] += own if abs(own) > abs(foreign) else foreign
            neighbour = unknown.get((other_row - 1, other_column - 1))
            if neighbour is None:
                right[number] += image[other_row, other_column]
            else:
                matrix[number, neighbour] -= 1
    return linalg.spsolve(matrix.tocsr(), right).reshape(height - 2, width - 2)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_the_solver_equals_a_dense_one(height: int, width: int, seed: int):
    wanted = np.random.default_rng(seed).normal(0, 50, (height, width, 2))
    along_rows = 2 * np.eye(height) - np.eye(height, k=1) - np.eye(height, k=-1)
    along_columns = 2 * np.eye(width) - np.eye(width, k=1) - np.eye(width, k=-1)
    dense = np.kron(along_rows, np.eye(width)) + np.kron(np.eye(height), along_columns)
    expected = np.linalg.solve(dense, wanted.reshape(-1, 2)).reshape(wanted.shape)
    np.testing.assert_allclose(solve_poisson(wanted), expected, rtol=0, atol=1e-9)


def test_a_large_solution_satisfies_the_equation():
    wanted = np.random.default_rng(0).normal(0, 50, (150, 205, 1))
    padded = np.pad(solve_poisson(wanted), ((1, 1), (1, 1), (0, 0)))
    left = 4 * padded[1:-1, 1:-1] - padded[:-2, 1:-1] - padded[2:, 1:-1] - padded[1:-1, :-2] - padded[1:-1, 2:]
    np.testing.assert_allclose(left, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.95])
def test_interpolation_equals_the_sparse_equations_written_out(share: float):
    generator = np.random.default_rng(1)
    image, second = generator.uniform(0, 255, (2, 9, 12, 3))
    ours = interpolate_gradients(image, second, share)
    for channel in range(3):
        expected = by_hand(image[..., channel], second[..., channel], share)
        np.testing.assert_allclose(ours[..., channel], expected, rtol=0, atol=1e-9)


def test_a_ramp_comes_back_where_the_other_is_constant():
    """Differences of a ramp, scaled, still have no divergence, and its border brings it back."""
    rows, columns = np.mgrid[:20, :30].astype(float)
    ramp = (3 * rows + 2 * columns)[..., None]
    np.testing.assert_allclose(interpolate_gradients(ramp, np.full_like(ramp, 7), 0.4), ramp[1:-1, 1:-1], atol=1e-9)


def test_values_of_the_other_image_do_not_matter_but_differences_do():
    generator = np.random.default_rng(2)
    image, second = generator.uniform(0, 100, (2, 10, 10, 1))
    plain, shifted = interpolate_gradients(image, second, 0.6), interpolate_gradients(image, second + 50, 0.6)
    np.testing.assert_allclose(plain, shifted, atol=1e-9)
    assert np.abs(plain - interpolate_gradients(image, second * 2, 0.6)).max() > 1


def test_a_constant_brighter_image_leaves_no_anomaly_where_fpi_leaves_a_square():
    image, second = np.full((48, 48, 3), 100, np.uint8), np.full((48, 48, 3), 200, np.uint8)
    for seed in range(10):
        anomaly = PoissonImageInterpolation()(image, np.random.default_rng(seed), None, second)
        assert anomaly.label == 0 and np.array_equal(anomaly.image, image)
        assert ForeignPatchInterpolation()(image, np.random.default_rng(seed), None, second).label == 1


def test_the_simulator_is_the_solution_within_fpis_square():
    compared = 0
    for seed in range(12):
        image, second = blobs(seed), blobs(seed + 50)
        anomaly = PoissonImageInterpolation()(image, np.random.default_rng(seed), None, second)
        square = ForeignPatchInterpolation()(image, np.random.default_rng(seed), None, second)
        frame = np.ones((64, 64), bool)
        frame[1:-1, 1:-1] = False
        assert np.array_equal(anomaly.footprint, square.footprint & ~frame)
        share = float(anomaly.soft_target.max())
        assert np.array_equal(np.unique(anomaly.soft_target), np.unique([0, np.float32(share)]))
        rows, columns = np.nonzero(anomaly.footprint)
        ring = slice(rows.min() - 1, rows.max() + 2), slice(columns.min() - 1, columns.max() + 2)
        solved = interpolate_gradients(image[ring].astype(float), second[ring].astype(float), share)
        clipped = solved.clip(image.min(), image.max())
        inner = anomaly.image[ring][1:-1, 1:-1]
        assert np.abs(inner - clipped).max() <= 0.501
        compared += inner.size
    assert compared > 3000


def test_values_stay_in_the_range_of_the_image():
    image = np.random.default_rng(0).integers(90, 110, (64, 64, 3), dtype=np.uint8)
    second = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for seed in range(20):
        result = PoissonImageInterpolation()(image, np.random.default_rng(seed), None, second).image
        assert result.min() >= image.min() and result.max() <= image.max()


def test_gray_images_are_solved_once_and_equal_coloured_ones():
    image, second = np.repeat(blobs(0)[..., :1], 3, axis=2), np.repeat(blobs(1)[..., :1], 3, axis=2)
    tinted = second.copy()
    tinted[0, 0, 2] ^= 1  # no longer gray, and at the frame, where no pixel is solved for
    for seed in range(5):
        gray = PoissonImageInterpolation(core=0.4)(image, np.random.default_rng(seed), None, second)
        colour = PoissonImageInterpolation(core=0.4)(image, np.random.default_rng(seed), None, tinted)
        assert np.abs(gray.image.astype(int) - colour.image).max() <= 1
