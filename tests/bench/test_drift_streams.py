"""Streams of the trial of the drift watch: what is in them, and what they find where the answer is known."""

import numpy as np
import pytest

from flawmap.detect.calibration import calibrate
from flawmap_bench.trials.drift_streams import CHANGES, images_to_warning, orders, with_defects

GOOD = calibrate([float(n) for n in range(40)], [0.0] * 40, 0.05, appearance_distances=[n / 40 for n in range(40)])


def test_orders_show_every_image_so_many_times() -> None:
    scores = np.arange(10.0).reshape(5, 2)
    stream = orders(scores, 3, np.random.default_rng(0))
    assert stream.shape == (15, 2)
    for part in np.split(stream, 3):
        assert np.array_equal(part[np.argsort(part[:, 0])], scores)


def test_about_a_twentieth_is_defective_and_the_rest_as_it_was() -> None:
    stream = with_defects(np.zeros((2000, 2)), np.full((3, 2), 9.0), np.random.default_rng(0))
    assert 60 < int((stream == 9).all(axis=1).sum()) < 140 and set(np.unique(stream)) == {0.0, 9.0}


@pytest.mark.parametrize(("column", "moved"), [(0, "scores"), (1, "appearance")])
def test_a_complete_change_is_found_after_27_images(column: int, moved: str) -> None:
    stream = np.zeros((100, 2))
    stream[40:, column] = 99
    assert images_to_warning(GOOD, stream, 40) == (27, moved)
    assert images_to_warning(GOOD, np.zeros((100, 2)), 0) == (None, "")


def test_changes_keep_the_form_of_an_image_but_for_the_crop() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    shapes = {name: change(pixels).shape for name, change in CHANGES.items()}
    assert shapes.pop("5 % cut off at each side") == (36, 54, 3) and set(shapes.values()) == {(40, 60, 3)}
    assert CHANGES["gamma 0.7"](pixels).mean() > pixels.mean() > CHANGES["gamma 1.4"](pixels).mean()
    assert np.array_equal(CHANGES["none"](pixels), pixels)
