"""Pasting with soft edges, and the blend that uses it for every other patch."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.blending import SOFT_CORE, paste, soft_paste


def gray(level: int, size: int = 40) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def test_the_share_of_the_patch_grows_with_the_distance_from_the_edge():
    footprint = np.zeros((40, 40), bool)
    footprint[10:31, 10:31] = True  # the middle is 11 px from the nearest pixel outside
    result = soft_paste(gray(100), gray(200), footprint)[20, :, 0].astype(float)
    inside = np.arange(10, 31)
    distance = np.minimum(inside - 9, 31 - inside)
    expected = 100 + 100 * (distance / (SOFT_CORE * 11)).clip(0, 1)
    np.testing.assert_allclose(result[10:31], expected, atol=3)  # OpenCV's distance is within 2 %
    assert (result[:10] == 100).all() and (result[31:] == 100).all()
    assert result[20] == 200


@given(st.integers(0, 2**32 - 1))
def test_it_lies_between_the_image_and_the_patch_and_changes_nothing_outside(seed: int):
    generator = np.random.default_rng(seed)
    image, patch = generator.integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    footprint = generator.random((24, 24)) < 0.6
    result = soft_paste(image, patch, footprint)
    assert (result[~footprint] == image[~footprint]).all()
    low, high = np.minimum(image, patch)[footprint], np.maximum(image, patch)[footprint]
    assert ((result[footprint] >= low) & (result[footprint] <= high)).all()


def test_an_empty_and_a_full_footprint_are_fine():
    assert (soft_paste(gray(1), gray(9), np.zeros((40, 40), bool)) == 1).all()
    full = soft_paste(gray(1), gray(201), np.ones((40, 40), bool))
    assert full[20, 20, 0] == 201 and full[0, 0, 0] < 50  # beyond the frame there is no patch


def test_mixed_blending_is_soft_about_every_other_time():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    settings = replace(
        SimulationSettings(), blend="mixed", jitter=0.0, max_rotation_deg=0.0, min_scale=1.0, max_scale=1.0
    )
    hard = 0
    for number in range(60):
        anomaly = AttentionCutPaste(settings)(image, np.random.default_rng(number), np.ones((4, 4), np.float32))
        rows, columns = np.nonzero(anomaly.footprint)
        patch = anomaly.image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        # an unrotated hard patch is a copy of a part of the image: search it
        windows = np.lib.stride_tricks.sliding_window_view(image, patch.shape)[:, :, 0]
        hard += bool((windows == patch).all(axis=(2, 3, 4)).any())
    assert 17 <= hard <= 43  # 60 throws of a coin, 3.5 standard deviations


def test_hard_blending_never_draws_the_coin():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    attention = np.ones((4, 4), np.float32)
    hard = AttentionCutPaste(SimulationSettings())(image, np.random.default_rng(3), attention)
    assert (paste(image, hard.image, hard.footprint) == hard.image).all()
    assert hard.label == 1
