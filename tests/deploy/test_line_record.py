"""Counts by day, the rate of false alarms from reviews, and what stays across restarts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from flawmap.deploy.line_record import Day, LineRecord
from flawmap.metrics.rates import wilson_interval

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(count_and_n: tuple[int, int]) -> None:
    count, n = count_and_n
    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert wilson_interval(float(count), float(n)) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_where_all_alarms_are_reviewed_the_rate_is_counted() -> None:
    rate = Day("2026-01-01", "", 1000, 30, 30, 10).rate
    assert rate == pytest.approx((10 / 980, *wilson_interval(10.0, 980.0)))


def test_where_a_sample_is_reviewed_the_rest_is_like_it_and_the_interval_is_wider() -> None:
    some, everything = Day("d", "", 1000, 40, 10, 5).rate, Day("d", "", 1000, 40, 40, 20).rate
    assert some is not None and everything is not None
    assert some[0] == pytest.approx(everything[0]) == pytest.approx(20 / 980)
    assert some[1] < everything[1] < everything[0] < everything[2] < some[2]


def test_without_a_review_there_is_no_rate_and_without_an_alarm_it_is_0() -> None:
    assert Day("d", "", 50, 3, 0, 0).rate is None and Day("d", "", 0, 0, 0, 0).rate is None
    assert Day("d", "", 50, 0, 0, 0).rate == pytest.approx((0.0, *wilson_interval(0.0, 50.0)))


@given(st.integers(1, 500), st.data())
def test_the_rate_lies_in_its_interval_and_all_are_shares(images: int, data: st.DataObject) -> None:
    alarms = data.draw(st.integers(0, images))
    reviewed = data.draw(st.integers(0, alarms))
    rate = Day("d", "", images, alarms, reviewed, data.draw(st.integers(0, reviewed))).rate
    assert rate is None or (0 <= rate[1] <= rate[0] + 1e-12 and rate[0] <= rate[2] + 1e-12 and rate[2] <= 1)


def test_an_image_counts_once_a_day_for_each_camera_and_reviews_find_it(tmp_path) -> None:
    record = LineRecord(tmp_path / "s.sqlite")
    assert record.note("2026-01-01", "", A, "m", True) and not record.note("2026-01-01", "", A, "m", True)
    assert record.note("2026-01-01", "left", A, "m", True)  # as another camera's picture
    assert record.note("2026-01-01", "", B, "m", False) and record.note("2026-01-02", "", B, "m", True)
    record.note_review(A, "m", "good")
    record.note_review(B, "m", "defect")
    record.note_review(C, "m", "good")  # was never scored
    record.close()
    record = LineRecord(tmp_path / "s.sqlite")
    assert record.days() == (
        Day("2026-01-02", "", 1, 1, 1, 0),
        Day("2026-01-01", "", 2, 1, 1, 1),
        Day("2026-01-01", "left", 1, 1, 1, 1),
    )
    assert record.days("2026-01-02") == (Day("2026-01-02", "", 1, 1, 1, 0),)
    record.note_review(A, "m", "defect")  # somebody looked again
    assert record.days()[1].false_alarms == 0


def test_the_oldest_days_are_forgotten_as_a_whole(tmp_path) -> None:
    record = LineRecord(tmp_path / "s.sqlite", kept_images=3)
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        for sha256 in (A, B):
            record.note(day, "", sha256, "m", False)
    record.note("2026-01-04", "", A, "m", False)
    assert [(day.day, day.images) for day in record.days()] == [("2026-01-04", 1), ("2026-01-03", 2)]


def test_thumbnails_stay_as_long_as_their_image_is_named(tmp_path) -> None:
    record = LineRecord(tmp_path / "s.sqlite")
    record.save_watch("", "one", {A: "picture of a", B: "picture of b"})
    record.save_watch("", "two", {A: None, C: "picture of c"})
    assert record.watch("") == "two" and record.watch("left") == ""
    assert record.thumbnails("") == {A: "picture of a", C: "picture of c"}
    record.clear_thumbnails()
    assert record.thumbnails("") == {} and record.watch("") == "two"
