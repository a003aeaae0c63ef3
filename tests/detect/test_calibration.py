"""Thresholds from held-out normal images, the colour scale around them, and their file."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.detect.calibration import at_rate, calibrate, map_scale_around
from flawmap.errors import UserError
from flawmap.runs.calibration import MapScale, read_calibration

scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
rates = st.floats(0.005, 0.9)


def test_a_calibration_by_hand():
    calibration = calibrate([4.0, 1.0, 3.0, 2.0], [0.5, 0.25, 1.0, 0.75], 0.4)
    # with a new image they are five, of which two may be above: the new one and the highest of these
    assert (calibration.threshold, calibration.map_threshold) == (3.0, 0.75)
    assert calibration.held_out_scores == (1.0, 2.0, 3.0, 4.0)
    assert (calibration.n_held_out, calibration.false_alarm_rate) == (4, 0.4)
    assert calibration.smallest_resolvable_rate == pytest.approx(0.2)
    assert calibration.map_scale == MapScale(0.0, 1.5)


def test_a_rate_that_cannot_be_resolved_flags_none_of_the_held_out():
    calibration = calibrate([1.0, 2.0], [0.0, 0.0], 0.01)
    assert 2.0 < calibration.threshold < 2.0 + 1e-9


@given(scores, rates)
def test_at_most_the_promised_share_of_held_out_images_is_flagged(held_out, rate):
    calibration = calibrate(held_out, held_out, rate)
    assert np.mean(np.array(held_out) > calibration.threshold) <= rate
    assert np.mean(np.array(held_out) > calibration.map_threshold) <= rate


@given(scores, rates)
def test_the_order_of_the_images_does_not_matter(held_out, rate):
    assert calibrate(held_out, held_out, rate) == calibrate(held_out[::-1], held_out[::-1], rate)


@given(st.floats(-100, 100))
def test_the_threshold_is_the_middle_of_the_colour_scale(threshold):
    scale = map_scale_around(threshold)
    assert scale.low < threshold < scale.high
    assert (scale.low + scale.high) / 2 == pytest.approx(threshold, abs=1e-6)
    if threshold > 1e-3:
        assert scale.low == pytest.approx(0, abs=1e-9)  # where no attention is


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UserError) as caught:
        calibrate([1.0], [1.0], rate)
    assert "must be between 0 and 1" in caught.value.problem and "0.01" in caught.value.remedy


def test_no_images_are_refused():
    with pytest.raises(UserError) as caught:
        calibrate([], [], 0.1)
    assert caught.value.remedy == "flawmap calibrate RUN GOOD_IMAGES"


# ---- the file


def test_a_calibration_survives_its_file(tmp_path):
    calibration = calibrate([0.1 + 0.2, 1 / 3, -1e-300], [1e-6, 2.0, 1 / 7], 0.3)
    (tmp_path / "calibration.json").write_text(json.dumps(asdict(calibration)))
    assert read_calibration(tmp_path / "calibration.json") == calibration


def test_no_file_is_no_calibration(tmp_path):
    assert read_calibration(tmp_path / "calibration.json") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: "",
        lambda values: "[]",
        lambda values: '{"threshold": 1',
        lambda values: json.dumps({**values, "threshold": "high"}),
        lambda values: json.dumps({**values, "threshold": float("nan")}),
        lambda values: json.dumps({**values, "map_threshold": None}),
        lambda values: json.dumps({**values, "map_scale": {"low": 1.0, "high": 1.0}}),
        lambda values: json.dumps({k: v for k, v in values.items() if k != "held_out_scores"}),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage):
    values = asdict(replace(calibrate([1.0, 2.0], [1.0, 2.0], 0.4)))
    path = tmp_path / "calibration.json"
    path.write_text(damage(values))
    with pytest.raises(UserError) as caught:
        read_calibration(path)
    assert "damaged" in caught.value.problem and caught.value.place == str(path)
    assert caught.value.remedy == "flawmap calibrate RUN GOOD_IMAGES"


# ---- groups


def test_a_calibration_of_groups_by_hand():
    scores, peaks, groups = [1.0, 5.0, 2.0, 3.0, 4.0], [0.1, 0.5, 0.2, 0.3, 0.4], ["a", "a", "b", None, None]
    calibration = calibrate(scores, peaks, 0.4, groups)
    # a new group makes five, of which two may lie above: the new one, and half of "a" with half of another one
    assert (calibration.threshold, calibration.map_threshold) == (4.0, 0.4)
    assert (calibration.n_held_out, calibration.n_groups, calibration.n_independent) == (5, 4, 4)
    assert calibration.smallest_resolvable_rate == pytest.approx(0.2) and calibration.is_resolved
    assert calibration.words == ["4 for 40.00% false alarms, from 5 images of 4 groups (cannot resolve below 20.0%)"]


def test_a_rate_that_groups_cannot_resolve_says_how_many_are_needed():
    calibration = calibrate([1.0] * 12, [1.0] * 12, 0.01, ["a", "b", "c"] * 4)
    assert calibration.words[0].endswith("from 12 images of 3 groups (cannot resolve below 25.0%)")
    assert calibration.words[1] == "only 25.0% can be guaranteed; 1.00% needs 99 groups of good images"
    assert calibrate([1.0, 2.0], [1.0, 2.0], 0.4, ["a", "a"]).of_groups == " of 1 group"


def test_images_without_groups_are_calibrated_as_ever(tmp_path):
    alone = calibrate([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.3)
    assert calibrate([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.3, [None] * 3) == alone
    assert (alone.n_groups, alone.n_independent, alone.of_groups) == (None, 3, "")
    record = asdict(alone)
    del record["n_groups"]  # a calibration of an earlier version
    (tmp_path / "calibration.json").write_text(json.dumps(record))
    assert read_calibration(tmp_path / "calibration.json") == alone
    for wrong in (0, -1, 4):
        (tmp_path / "calibration.json").write_text(json.dumps(record | {"n_groups": wrong}))
        with pytest.raises(UserError, match=f"3 images cannot be of {wrong} groups"):
            read_calibration(tmp_path / "calibration.json")


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=40), rates, rates)
def test_another_rate_is_what_the_same_images_would_have_set(held_out, rate, other):
    scores, peaks = ([pair[side] for pair in held_out] for side in (0, 1))
    groups = [str(number % 3) for number in range(len(scores))]
    for of in (None, groups):
        calibration = calibrate(scores, peaks, rate, of, is_estimate=True)
        assert at_rate(calibration, other) == calibrate(scores, peaks, other, of, is_estimate=True)
        assert at_rate(calibration, rate) == calibration


def test_peaks_and_groups_stay_beside_their_scores():
    calibration = calibrate([4.0, 1.0, 3.0], [0.5, 0.25, 1.0], 0.4, ["a", "b", "a"])
    assert calibration.held_out_scores == (1.0, 3.0, 4.0) and calibration.held_out_peaks == (0.25, 1.0, 0.5)
    of_one, *of_two = calibration.held_out_groups
    assert of_two == [of_two[0]] * 2 != [of_one] * 2
    with pytest.raises(ValueError, match="peak"):
        replace(calibration, held_out_peaks=(1.0,))
