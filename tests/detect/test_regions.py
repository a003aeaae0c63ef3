"""Regions of a map, against scipy's labelling and by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from flawmap.detect.detection import MAX_REGIONS, find_regions


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
