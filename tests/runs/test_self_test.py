"""The self-test: an image of fixed bytes, and how far a model's answer may be from the one that it carries."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.runs.calibration import MapScale
from flawmap.runs.self_test import SelfTest, self_test_image

SCALE = MapScale(0.0, 8.0)


def test_the_image_never_changes():
    """Models carry what they give for these bytes: another image would fail every model that was saved before."""
    image = self_test_image()
    assert (image.shape, image.dtype, image.min(), image.max()) == ((64, 97, 3), np.uint8, 28, 247)
    assert hashlib.sha256(image.tobytes()).hexdigest() == (
        "35142a9fb40857cccc8d68d889bc27d10c435760283e789de9b9e1f6d0a63be1"
    )
    assert np.array_equal(image, self_test_image())


def test_it_is_textured_and_coloured():
    image = self_test_image().astype(np.float64)
    assert image.std() > 20 and np.abs(image[..., 0] - image[..., 2]).mean() > 5


@pytest.mark.parametrize(
    ("score", "peak", "measured", "tolerance", "map_tolerance"),
    [
        (0.5, 4.0, (0.0, 0.0), 0.001, 0.4),
        (12.0, 4.0, (0.0, 0.0), 0.012, 0.4),
        (-12.0, -4.0, (0.0, 0.0), 0.012, 0.4),
        (12.0, 100.0, (0.0, 0.0), 0.012, 5.0),
        (12.0, 4.0, (0.8, 0.7), 0.8, 0.7),
        (12.0, 4.0, (0.002, 0.1), 0.012, 0.4),
    ],
)
def test_the_tolerance_is_what_was_measured_and_at_least_a_share(score, peak, measured, tolerance, map_tolerance):
    found = SelfTest.of(score, peak, SCALE, *measured)
    assert (found.score, found.map_peak) == (score, peak)
    assert (found.tolerance, found.map_tolerance) == (pytest.approx(tolerance), pytest.approx(map_tolerance))


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(-3, 3), st.floats(-3, 3))
def test_it_is_passed_within_the_tolerances_and_not_beyond(score, peak, score_share, peak_share):
    test = SelfTest.of(score, peak, SCALE)
    far = min(abs(abs(score_share) - 1), abs(abs(peak_share) - 1))
    if far < 1e-3:
        return  # on the edge, rounding decides
    answer = score + score_share * test.tolerance, peak + peak_share * test.map_tolerance
    assert test.is_passed_by(*answer) == (abs(score_share) < 1 and abs(peak_share) < 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_number_passes_nothing_and_is_carried_by_nothing(bad):
    test = SelfTest.of(1.0, 2.0, SCALE)
    assert not test.is_passed_by(bad, 2.0) and not test.is_passed_by(1.0, bad)
    for values in ((bad, 2.0, 0.1, 0.1), (1.0, bad, 0.1, 0.1), (1.0, 2.0, bad, 0.1), (1.0, 2.0, 0.1, bad)):
        with pytest.raises(ValueError, match="not a usable number"):
            SelfTest(*values)
    with pytest.raises(ValueError, match="not a usable number"):
        SelfTest(1.0, 2.0, 0.0, 0.1)
