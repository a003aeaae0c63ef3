"""What holds for every anomaly that attention simulates: thousands of random settings, images and attention maps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.blending import FRAME_PX
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly
from images import noise

SIDE = 64
BLENDS = ["hard", "mixed", "poisson"]
EVERYWHERE = np.ones((4, 4), np.float32)


def assert_is_consistent(image: np.ndarray, anomaly: SimulatedAnomaly, settings: SimulationSettings) -> None:
    """What holds for every simulated anomaly."""
    footprint = anomaly.footprint
    assert anomaly.image.shape == image.shape and footprint.shape == image.shape[:2]
    assert np.array_equal(anomaly.image[~footprint], image[~footprint])
    assert anomaly.label == int(footprint.any())
    assert np.array_equal(anomaly.soft_target, footprint.astype(np.float32))
    if anomaly.label == 0:
        assert np.array_equal(anomaly.image, image)
    elif settings.max_patches == 1:
        assert np.abs(anomaly.image.astype(int) - image)[footprint].mean() >= 3
    if settings.blend == "poisson":
        assert not footprint[:FRAME_PX].any() and not footprint[-FRAME_PX:].any()
        assert not footprint[:, :FRAME_PX].any() and not footprint[:, -FRAME_PX:].any()


def fuzz(blend: str, draws: int) -> None:
    """Random settings within the recipe's ranges, images and attention; every result is consistent."""
    generator = np.random.default_rng(11)
    labels = 0
    for number in range(draws):
        small, large = np.sort(generator.uniform(0.01, 1, 2)) if number % 3 else (0.1, 0.4)
        thin, thick = np.sort(generator.uniform(0.1, 3, 2)) if number % 2 else (0.7, 1.3)
        settings = SimulationSettings(
            blend=blend,
            min_size=float(small),
            max_size=float(large),
            max_rotation_deg=float(generator.uniform(0, 180)),
            min_scale=float(thin),
            max_scale=float(thick),
            max_patches=1 + number % 2,
        )
        height = SIDE if number % 5 else int(generator.integers(8, 65))
        image = noise(number % 10, height, SIDE)
        image = image // 8 * 2 + 50 if number % 7 == 0 else image
        attention = generator.random((4, 4), dtype=np.float32) ** generator.uniform(0, 20)
        attention[generator.random((4, 4)) < 0.3] = 0
        anomaly = AttentionCutPaste(settings)(image, generator, attention.astype(np.float32))
        assert_is_consistent(image, anomaly, settings)
        labels += anomaly.label
    assert 0.7 * draws < labels <= draws


@pytest.mark.parametrize("blend", BLENDS)
def test_every_anomaly_of_300_is_consistent(blend: str):
    fuzz(blend, 300)


@pytest.mark.slow
@pytest.mark.parametrize("blend", ["hard", "poisson"])
def test_every_anomaly_of_10000_is_consistent(blend: str):
    fuzz(blend, 10_000)


@given(st.integers(2, 24), st.integers(2, 24), st.sampled_from(BLENDS), st.integers(0, 10**6))
def test_tiny_images_are_safe(height: int, width: int, blend: str, seed: int):
    image, settings = noise(0, height, width), SimulationSettings(blend=blend)
    assert_is_consistent(image, AttentionCutPaste(settings)(image, np.random.default_rng(seed), EVERYWHERE), settings)
