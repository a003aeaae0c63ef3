"""The benchmarks of runtimes and server: what is counted, and what counts as wrong."""

from collections import Counter

import numpy as np
import pytest

from flawmap.benchmark import load_test
from flawmap.benchmark.latency import ROUNDS, WARM_UP, in_turns


def test_ways_take_turns_and_warm_up_rounds_do_not_count():
    order = []
    seconds = in_turns({name: lambda _, name=name: order.append(name) for name in "ab"}, np.zeros((2, 2, 3), np.uint8))
    assert order == ["a", "b"] * (WARM_UP + ROUNDS)
    assert {name: len(times) for name, times in seconds.items()} == {"a": ROUNDS, "b": ROUNDS}


def test_the_plan_is_the_same_each_time_and_mixes_bad_uploads_in():
    plan = load_test.plan(2000, 8)
    assert plan == load_test.plan(2000, 8) and [len(orders) for orders in plan] == [250] * 8
    kinds = Counter(one if isinstance(one, str) else "good" for orders in plan for one in orders)
    assert kinds["good"] > 1700 and kinds["100 MB"] == 8
    assert kinds.keys() == {"good", *load_test.bad_uploads(b"x" * 10)}


def tally(**changes) -> load_test.Tally:
    seen = load_test.Tally()
    seen.seconds, seen.statuses, seen.megabytes = [0.1] * 99 + [2.0], Counter({200: 100}), [100.0] * 10
    for name, value in changes.items():
        setattr(seen, name, value)
    return seen


def test_a_calm_test_is_good():
    text, is_good = load_test.report(tally(), 100, 8, 10.0)
    assert is_good and "100 answered in 10 s" in text and "10.0 per second; p50 100 ms, p99 100 ms" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"wrong": ["3: score 1, expected 2"]},
        {"statuses": Counter({200: 99})},  # one was lost
        {"megabytes": [100.0, 100.0, 110.0, 130.0, 180.0, 240.0]},
    ],
)
def test_a_mixed_up_or_lost_answer_or_growing_memory_is_not(changes):
    assert not load_test.report(tally(**changes), 100, 8, 10.0)[1]
