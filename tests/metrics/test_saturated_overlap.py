"""AU-sPRO: closed forms, AUPRO as its special case, and the definition computed threshold by threshold."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assertions import quantised_scores
from flawmap.metrics.pixel_pool import PixelPool, PixelPools, count_pixels
from flawmap.metrics.saturated_overlap import count_saturated
from saturated_by_definition import Marked, by_definition


def values_of(images: list[Marked]) -> dict[str, float]:
    pool = PixelPool()
    for anomaly_map, defects in images:
        pool.add(count_saturated(anomaly_map, defects))
    return pool.values()


@st.composite
def marked_images(draw: st.DrawFn) -> list[Marked]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = []
    for _ in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(2, 7)), draw(st.integers(2, 7)))
        anomaly_map = generator.integers(0, draw(st.sampled_from([3, 50])), size=shape).astype(np.float32)
        defects = []
        for _ in range(draw(st.integers(0, 3))):
            pixels = generator.random(shape) < 0.3
            pixels[0, 0], pixels[1, 1] = True, False  # at least one of either
            pixels[-1, -1] = False
            defects.append((pixels, int(generator.integers(1, pixels.sum() + 1))))
        images.append((anomaly_map, defects))
    pixels = np.zeros((3, 3), bool)
    pixels[1] = True
    return [*images, (generator.random((3, 3)).astype(np.float32), [(pixels, 2)])]


@settings(deadline=None)
@given(marked_images())
def test_the_area_is_that_of_the_definition(images: list[Marked]):
    binned = [(quantised_scores(anomaly_map), defects) for anomaly_map, defects in images]
    found = values_of(images)
    for name, limit in (("aupro_30", 0.3), ("aupro_05", 0.05)):
        assert found[name] == pytest.approx(by_definition(binned, limit), abs=1e-9)


def test_a_defect_is_found_in_full_at_its_saturation_area():
    truth = np.zeros((10, 10), bool)
    truth[:4, :5] = True  # 20 pixels
    anomaly_map = np.zeros((10, 10))
    anomaly_map[0, :5] = 1  # 5 of them, and nothing else
    for saturation, plateau in ((5, 1.0), (10, 0.5), (20, 0.25)):
        # one step to the plateau without false pixels, then straight to (1, 1), where all else is found at once
        expected = plateau + (1 - plateau) * 0.3 / 2
        assert values_of([(anomaly_map, [(truth, saturation)])])["aupro_30"] == pytest.approx(expected)


def test_two_files_that_mark_the_same_place_are_two_defects():
    truth = np.zeros((4, 4), bool)
    truth[0] = True
    anomaly_map = np.zeros((4, 4))
    anomaly_map[0, :2] = 1
    expected = [(1 + 0.5) / 2, 1.0]
    for saturations, plateau in (((2, 4), expected[0]), ((2, 2), expected[1])):
        found = values_of([(anomaly_map, [(truth, saturation) for saturation in saturations])])["aupro_05"]
        assert found == pytest.approx(plateau + (1 - plateau) * 0.05 / 2)


def test_saturation_at_the_whole_area_of_connected_defects_is_aupro():
    generator, pools = np.random.default_rng(3), (PixelPool(), PixelPool())
    for number in range(6):
        truth, other = np.zeros((2, 12, 12), bool)
        truth[2:5, 1:7], other[8:, 8:] = number % 2, number % 2
        anomaly_map = generator.normal(size=(12, 12)) + truth
        defects = [(pixels, int(pixels.sum())) for pixels in (truth, other) if pixels.any()]
        pools[0].add(count_saturated(anomaly_map, defects))
        pools[1].add(count_pixels(anomaly_map, truth | other))
    saturated, plain = (pool.values() for pool in pools)
    assert saturated == pytest.approx(plain, abs=1e-12)


def test_a_lower_saturation_never_lowers_the_measure():
    generator = np.random.default_rng(4)
    truth = generator.random((20, 20)) < 0.2
    anomaly_map = generator.normal(size=(20, 20)) + truth
    found = [values_of([(anomaly_map, [(truth, s)])])["aupro_30"] for s in range(1, int(truth.sum()) + 1)]
    assert all(after <= before + 1e-12 for before, after in pairwise(found))


def test_kinds_are_measured_with_all_good_images_and_have_intervals():
    generator, pools, images = np.random.default_rng(5), PixelPools(), []
    for number in range(15):
        truth = np.zeros((9, 9), bool)
        truth[3:6, 3:6] = number % 3 > 0
        anomaly_map = quantised_scores(generator.normal(size=(9, 9)) + truth)
        defects = [(truth, 4)] if truth.any() else []
        images.append((anomaly_map, defects))
        pools.add(count_saturated(anomaly_map, defects), ("good", "logical", "structural")[number % 3])
    for kind, number in (("logical", 1), ("structural", 2)):
        chosen = [image for place, image in enumerate(images) if place % 3 in (0, number)]
        estimate = pools.by_kind()[kind].estimates(np.random.default_rng(0), 50)["aupro_30"]
        assert estimate.value == pytest.approx(by_definition(chosen, 0.3), abs=1e-9)
        assert estimate.low is not None and estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize("saturation", [0, 4])
def test_a_defect_that_can_never_be_found_in_full_is_refused(saturation: int):
    pixels = np.zeros((2, 3), bool)
    pixels[0] = True
    with pytest.raises(ValueError, match=f"a defect of 3 pixels cannot saturate at {saturation}"):
        count_saturated(np.zeros((2, 3)), [(pixels, saturation)])


def test_a_map_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="labels"):
        count_saturated(np.zeros((2, 3)), [(np.ones((3, 2), bool), 1)])
    with pytest.raises(ValueError, match="height, width"):
        count_saturated(np.zeros(3), [])
