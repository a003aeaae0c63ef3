"""The control of attention-conditioned cut and paste: uniform locations, all else the same."""

import numpy as np
from scipy import stats

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.random_cutpaste import RandomCutPaste
from images import noise

SMALL = SimulationSettings(min_size=0.05, max_size=0.1)


def one_hot(row: int, column: int) -> np.ndarray:
    attention = np.zeros((6, 6), np.float32)
    attention[row, column] = 1
    return attention


def centers(anomalies: list) -> np.ndarray:
    return np.array([np.mean(np.nonzero(anomaly.footprint), axis=1) + 0.5 for anomaly in anomalies])


def test_the_control_is_ours_under_uniform_attention():
    for seed in range(5):
        control = RandomCutPaste(SMALL)(noise(seed, 96, 96), np.random.default_rng(seed), one_hot(1, 1))
        ours = AttentionCutPaste(SMALL)(
            noise(seed, 96, 96), np.random.default_rng(seed), np.full((4, 3), 0.2, np.float32)
        )
        assert np.array_equal(control.image, ours.image)


def test_attention_draws_defects_and_the_control_ignores_it():
    attention, image = one_hot(4, 1), noise(0, 96, 96)
    runs = {
        kind: centers([kind(SMALL)(image, np.random.default_rng(seed), attention) for seed in range(150)])
        for kind in (AttentionCutPaste, RandomCutPaste)
    }
    cell_center = np.array([4.5, 1.5]) * 16
    far = {kind: np.abs(places - cell_center).max(axis=1) for kind, places in runs.items()}
    assert far[AttentionCutPaste].max() <= 26  # a cell and a half to each side, where interpolation ends
    assert np.mean(far[RandomCutPaste] > 26) > 0.5


def test_the_controls_locations_are_uniform():
    image = noise(1, 96, 96)
    places = centers([RandomCutPaste(SMALL)(image, np.random.default_rng(seed), None) for seed in range(400)])
    # patches are shifted inside near the border: only those of the middle are compared
    middle = places[((places > 12) & (places < 84)).all(axis=1)]
    cells = ((middle - 12) // 24).astype(int)
    counts = np.bincount(cells[:, 0] * 3 + cells[:, 1], minlength=9)
    assert len(middle) > 200 and stats.chisquare(counts).pvalue > 0.01
