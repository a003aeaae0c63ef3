"""Regions of a map, against scipy's labelling and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from flawmap.detect.detection import MAX_REGIONS, find_regions, judge
from flawmap.metrics.defect_regions import above_threshold
from flawmap.runs.calibration import Calibration, MapScale


def drawn(*rows: str) -> np.ndarray:
    """'.' is 0, a digit its value."""
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], np.float32)


def test_boxes_areas_and_peaks_by_hand():
    regions = find_regions(drawn("22...", "2....", ".....", "...95", "...55"), 1.0)
    assert [r.box_xyxy_px for r in regions] == [(3, 3, 5, 5), (0, 0, 2, 2)]  # left, top, right, bottom; highest first
    assert [r.area_px for r in regions] == [4, 3]
    assert [r.peak_score for r in regions] == [9.0, 2.0]


def test_corners_connect():
    (region,) = find_regions(drawn("3..", ".4.", "..5"), 1.0)
    assert (region.box_xyxy_px, region.area_px, region.peak_score) == ((0, 0, 3, 3), 3, 5.0)


def test_a_box_may_hold_another_regions_pixels_but_not_its_peak():
    ring = drawn("2222222", "2.....2", "2.....2", "2..7..2", "2.....2", "2.....2", "2222222")
    inner, outer = find_regions(ring, 1.0)
    assert (inner.area_px, inner.peak_score) == (1, 7.0)
    assert (outer.box_xyxy_px, outer.area_px, outer.peak_score) == ((0, 0, 7, 7), 24, 2.0)


def test_a_value_at_the_threshold_is_not_above_it():
    assert find_regions(drawn("11", "11"), 1.0) == ()
    assert find_regions(drawn("12", "11"), 1.0)[0].area_px == 1


def test_everything_above_is_one_region():
    (region,) = find_regions(np.zeros((3, 4), np.float32), -1.0)
    assert (region.box_xyxy_px, region.area_px) == ((0, 0, 4, 3), 12)


def test_the_strongest_are_kept():
    spots = np.zeros((20, 20), np.float32)
    spots[::2, ::2] = np.arange(1, 101).reshape(10, 10)
    regions = find_regions(spots, 0.0)
    assert [r.peak_score for r in regions] == list(range(100, 100 - MAX_REGIONS, -1))


@given(arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)))
def test_regions_equal_scipys_components(anomaly_map):
    labels, count = ndimage.label(anomaly_map > 1, structure=np.ones((3, 3)))
    expected = [
        (
            columns.start,
            rows.start,
            columns.stop,
            rows.stop,
            int((labels == i + 1).sum()),
            anomaly_map[labels == i + 1].max(),
        )
        for i, (rows, columns) in enumerate(ndimage.find_objects(labels))
    ]
    found = find_regions(anomaly_map, 1.0)
    assert len(found) == count
    assert sorted((*r.box_xyxy_px, r.area_px, r.peak_score) for r in found) == sorted(expected)
    assert sum(r.area_px for r in found) == (anomaly_map > 1).sum()


CALIBRATION = Calibration(10.0, 0.1, 9, 0.1, 1.0, MapScale(0.0, 2.0), (1.0, 10.0))


@pytest.mark.parametrize(
    ("score", "min_area_px", "areas", "n_small", "is_anomalous"),
    [
        (11.0, 0.0, [3, 1], 0, True),
        (11.0, 1.0, [3, 1], 0, True),
        (11.0, 2.5, [3], 1, True),
        (11.0, 3.0, [3], 1, True),
        (11.0, 3.5, [], 2, False),  # all that the map shows is tolerated
        (9.0, 0.0, [3, 1], 0, False),
        (9.0, 2.0, [3], 1, False),
    ],
)
def test_a_minimum_area_leaves_regions_out_and_then_the_verdict(score, min_area_px, areas, n_small, is_anomalous):
    anomaly_map = drawn("22...", "2....", ".....", "....3")
    found = judge({"a": score}, "a", anomaly_map, CALIBRATION, min_area_px=min_area_px)
    assert sorted((region.area_px for region in found.regions), reverse=True) == areas
    assert (found.n_small_regions, found.is_anomalous) == (n_small, is_anomalous)
    assert found.is_tolerated == (n_small == 2)
    assert int(above_threshold(anomaly_map, 1.0, min_area_px).sum()) == sum(areas)
    assert found.to_json()["n_small_regions"] == n_small


def test_an_image_that_is_unusual_as_a_whole_stays_anomalous_whatever_the_minimum_area():
    found = judge({"a": 11.0}, "a", drawn("...", "..."), CALIBRATION, min_area_px=1e9)
    assert found.is_anomalous and found.regions == () and not found.is_tolerated


def test_without_a_threshold_a_minimum_area_changes_nothing():
    found = judge({"a": 11.0}, "a", drawn("22", ".."), None, min_area_px=1e9)
    assert not found.is_anomalous and found.n_small_regions == 0


def test_large_regions_are_kept_where_many_small_ones_have_higher_peaks():
    spots = np.zeros((40, 40), np.float32)
    spots[::4, ::4] = 9  # a hundred pixels on their own
    spots[2, :] = 2
    found = judge({"a": 11.0}, "a", spots, CALIBRATION, min_area_px=2.0)
    assert [(region.area_px, region.peak_score) for region in found.regions] == [(40, 2.0)]
    assert found.n_small_regions == 100
