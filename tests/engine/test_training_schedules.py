"""Warm-up, cosine and the number of steps: closed forms and properties."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.engine.schedules import WarmupCosine, cosine, steps_of_stage

pytestmark = pytest.mark.usefixtures("small_heads")

RATES = st.floats(0, 10)


def test_closed_form_at_each_kind_of_step():
    schedule = WarmupCosine(start=1.0, peak=5.0, end=2.0, warmup_steps=4, total_steps=13)
    assert [schedule.at(step) for step in range(5)] == pytest.approx([1, 2, 3, 4, 5])
    # nine steps of half a cosine from 5 to 2: the middle one is the mean, the last one is the end
    assert schedule.at(8) == pytest.approx(3.5)
    assert schedule.at(6) == pytest.approx(2 + 3 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule.at(12) == pytest.approx(2)


@given(start=RATES, rise=RATES, fall=st.floats(0, 1), warmup=st.integers(0, 50), rest=st.integers(2, 100))
def test_rises_to_its_peak_and_falls_to_its_end(start: float, rise: float, fall: float, warmup: int, rest: int):
    peak, total = start + rise, warmup * 3 + rest  # so that the warm-up fits into a third
    schedule = WarmupCosine(start, peak, peak * fall, warmup, total)
    values = [schedule.at(step) for step in range(total)]
    assert values[0] == pytest.approx(start if warmup else peak)
    assert values[warmup] == pytest.approx(peak)
    assert values[-1] == pytest.approx(peak * fall, abs=1e-9)
    tolerance = 1e-9 * (1 + peak)
    assert all(b >= a - tolerance for a, b in pairwise(values[: warmup + 1]))
    assert all(b <= a + tolerance for a, b in pairwise(values[warmup:]))


def test_a_warm_up_longer_than_training_takes_a_third_of_it():
    schedule = WarmupCosine(start=0.0, peak=3.0, end=0.5, warmup_steps=1000, total_steps=9)
    assert schedule.warmup == 3
    assert [schedule.at(step) for step in range(4)] == pytest.approx([0, 1, 2, 3])
    assert schedule.at(8) == pytest.approx(0.5)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_very_short_trainings_stay_between_the_rates(total: int):
    schedule = WarmupCosine(start=1.0, peak=5.0, end=0.5, warmup_steps=10, total_steps=total)
    values = [schedule.at(step) for step in range(total)]
    assert values == pytest.approx([1.0, 5.0, 0.5][:total])


@given(first=RATES, last=RATES, total=st.integers(1, 1000))
def test_cosine_goes_from_first_to_last_and_stays(first: float, last: float, total: int):
    assert cosine(first, last, 0, total) == pytest.approx(first)
    if total > 1:
        assert cosine(first, last, total - 1, total) == pytest.approx(last, abs=1e-9)
        assert cosine(first, last, total + 5, total) == pytest.approx(last, abs=1e-9)
    if total % 2:
        assert cosine(first, last, (total - 1) // 2, total) == pytest.approx(
            (first + last) / 2 if total > 1 else first, abs=1e-9
        )


@pytest.mark.parametrize(
    ("epochs", "steps", "images", "batch", "expected"),
    [
        (3, None, 10, 4, (6, 2)),  # two images of each epoch are left over
        (3, None, 12, 4, (9, 3)),
        (None, 7, 10, 4, (7, 2)),  # a number of steps wins over epochs and may end within one
        (5, None, 4, 4, (5, 1)),
        (5, None, 3, 4, (5, 1)),  # fewer images than a batch: one step per epoch
    ],
)
def test_steps_of_stage(epochs: int | None, steps: int | None, images: int, batch: int, expected: tuple[int, int]):
    assert steps_of_stage(epochs, steps, images, batch) == expected
