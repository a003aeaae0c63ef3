"""Defects of many shapes and looks: what is labelled can be seen, and sizes are those that were promised."""

import numpy as np
import pytest

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.varied import MAX_AREA, MIN_AREA, MIN_CHANGE, MIN_SIDE_PX, VariedDefects, draw_shape

SIDE = 96
ATTENTION = np.random.default_rng(0).random((6, 6)).astype(np.float32)


def part_on(ground: int, seed: int) -> np.ndarray:
    """A noisy gray disk on a black, gray or white ground."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disk = (rows**2 + columns**2 < (SIDE / 3) ** 2)[..., None]
    return np.where(disk, generator.normal(120, 8, (SIDE, SIDE, 1)), ground).repeat(3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_every_labelled_pixel_has_changed_visibly(ground: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flawmap.simulators.varied.CUTPASTE_SHARE", 0.0)  # the paper's own keeps its whole rectangle
    simulate = VariedDefects(SimulationSettings(max_patches=1))
    second, found = part_on(ground, 999), 0
    for seed in range(60):
        image = part_on(ground, seed)
        anomaly = simulate(image, np.random.default_rng(seed), ATTENTION, second)
        change = np.abs(anomaly.image.astype(int) - image).mean(axis=2)
        assert (change[anomaly.footprint] > MIN_CHANGE).all()
        assert (change[~anomaly.footprint] == 0).all()
        found += anomaly.label
    assert found > 40  # on a black ground some draws darken nothing but the ground


def test_shapes_lie_between_the_smallest_and_the_largest_area():
    generator = np.random.default_rng(1)
    areas, thin = [], 0
    for _ in range(400):
        shape = draw_shape(SIDE, SIDE, generator)
        assert shape.any() and shape.shape[0] <= SIDE and shape.shape[1] <= SIDE
        areas.append(shape.sum() / SIDE**2)
        thin += shape.mean() < 0.3
    assert max(areas) <= MAX_AREA * 1.05  # sides are whole numbers
    assert min(areas) >= min(MIN_AREA, 1 / SIDE**2)
    assert np.quantile(areas, 0.9) / np.quantile(areas, 0.1) > 15  # over more than an order of magnitude
    assert thin > 20  # curves
    assert draw_shape(MIN_SIDE_PX, MIN_SIDE_PX, generator).any()


def test_one_generator_gives_one_defect():
    simulate, image = VariedDefects(), part_on(128, 3)
    first, second = (simulate(image, np.random.default_rng(5), ATTENTION, part_on(128, 4)) for _ in range(2))
    assert np.array_equal(first.image, second.image) and np.array_equal(first.footprint, second.footprint)
