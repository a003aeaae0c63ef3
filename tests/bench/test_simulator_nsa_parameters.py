"""NSA's sizes and scales have the published distributions, and its table holds the published values."""

import numpy as np
import pytest
from scipy import stats

from flawmap.errors import UserError
from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.by_name import simulator_by_name
from flawmap_bench.simulators.nsa import NSA_PARAMETERS, NsaParameters, draw_sides, nsa_parameters

LARGE = 100_000  # px: rounding is nothing


def sides(parameters: NsaParameters, draws: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    drawn = [draw_sides(LARGE, LARGE, generator, parameters) for _ in range(draws)]
    cut, pasted = np.array(drawn).transpose(1, 0, 2) / LARGE
    return cut, pasted


@pytest.mark.parametrize(("name", "lower", "scale"), [("carpet", 0.03, 0.05), ("chest_xray", 0.05, 0.03)])
def test_half_sides_are_a_shifted_gamma_cut_to_its_bounds(name: str, lower: float, scale: float):
    cut, _ = sides(NSA_PARAMETERS[name])
    for half in cut.T / 2:
        below = half[half < 0.399]
        law = stats.gamma(2, loc=lower, scale=scale)
        assert stats.kstest(below, lambda x, law=law: law.cdf(x) / law.cdf(0.399)).pvalue > 0.01
        assert half.max() <= 0.4 + 1e-4 and half.mean() == pytest.approx(lower + 2 * scale, abs=0.005)
    assert abs(stats.spearmanr(*cut.T).statistic) < 0.07  # height and width on their own


@pytest.mark.parametrize(("name", "low", "high"), [("wood", 0.5, 2.0), ("cable", 0.7, 1.3)])
def test_scales_are_a_clipped_normal(name: str, low: float, high: float):
    cut, pasted = sides(NSA_PARAMETERS[name])
    scales = pasted[:, 0] / cut[:, 0]
    np.testing.assert_allclose(scales, pasted[:, 1] / cut[:, 1], rtol=2e-3)  # the aspect stays
    free = (cut.max(axis=1) * high < 0.8) & (cut.min(axis=1) * low > 0.1)  # where no bound of the sides cuts in
    drawn = scales[free]
    assert free.sum() > 300
    assert low - 1e-3 < drawn.min() < low + 1e-3 and high - 1e-3 < drawn.max() < high + 1e-3
    inner = drawn[(drawn > low + 1e-3) & (drawn < high - 1e-3)]
    law = stats.truncnorm((low - 1) / 0.5, (high - 1) / 0.5, loc=1, scale=0.5)
    assert stats.kstest(inner, law.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", NSA_PARAMETERS)
def test_both_patches_keep_the_bounds(name: str):
    parameters = NSA_PARAMETERS[name]
    for drawn in sides(parameters, 300):
        for side, (low, high) in zip(drawn.T / 2, (parameters.half_height, parameters.half_width), strict=True):
            assert side.min() >= low - 1e-4 and side.max() <= high + 1e-4


def test_parameters_are_the_published_ones():
    usual = (0.03, 0.4)
    bounds = {
        "cable": ((0.05, 0.4), (0.05, 0.4)),
        "capsule": ((0.03, 0.15), usual),
        "hazelnut": ((0.03, 0.35), (0.03, 0.35)),
        "pill": ((0.03, 0.2), usual),
        "screw": ((0.03, 0.12), (0.03, 0.12)),
        "toothbrush": (usual, (0.03, 0.2)),
        "zipper": (usual, (0.03, 0.2)),
    }
    textures = {"carpet", "grid", "leather", "tile", "wood"}
    dark, bright = {"hazelnut", "pill", "toothbrush", "metal_nut"}, {"bottle", "screw", "capsule", "zipper"}
    logistic = {
        (1 / 12, 24): {"bottle", "cable", "hazelnut"},
        (1 / 2, 4): {"capsule", "chest_xray"},
        (1, 3): {"screw"},
        (1 / 3, 7): {"metal_nut", "pill", "carpet", "grid", "leather", "tile"},
        (1 / 6, 15): {"toothbrush", "transistor", "zipper", "wood"},
    }
    assert sum(len(names) for names in logistic.values()) == len(NSA_PARAMETERS) == 16
    for name, parameters in NSA_PARAMETERS.items():
        assert (parameters.half_height, parameters.half_width) == bounds.get(name, (usual, usual)), name
        assert parameters.gamma == ((2, 0.03, 0.05) if name == "chest_xray" else (2, 0.05, 0.03)), name
        assert parameters.scale == ((0.5, 2.0) if name in textures else (0.7, 1.3)), name
        assert parameters.max_patches == (4 if name in textures | {"screw", "zipper"} else 3), name
        assert parameters.clone == ("mixed" if name in textures | {"chest_xray"} else "normal"), name
        background = (20, 20) if name in dark else (200, 60) if name in bright else None
        assert parameters.background == ((0, 20) if name == "chest_xray" else background), name
        assert parameters.min_object == {"metal_nut": 0.5, "screw": 0.5, "toothbrush": 0.25}.get(name, 0.7), name
        assert parameters.min_overlap == (0.7 if name == "chest_xray" else 0.25), name
        assert name in logistic[(parameters.steepness, parameters.midpoint)], name
    assert NsaParameters() == NSA_PARAMETERS["tile"]


def test_a_recipe_names_the_class_whose_parameters_are_taken():
    assert nsa_parameters(None) == NsaParameters() == NSA_PARAMETERS["carpet"]
    simulator = simulator_by_name("nsa", SimulationSettings(simulator="nsa", nsa_class="screw"))
    assert simulator.parameters == NSA_PARAMETERS["screw"]


def test_a_class_without_parameters_is_refused():
    with pytest.raises(UserError) as caught:
        simulator_by_name("nsa", SimulationSettings(simulator="nsa", nsa_class="pcb"))
    assert caught.value.place == "simulation.nsa_class" and "screw" in caught.value.remedy
