"""Several threads, results in order: what is begun, what is held, and how it ends when somebody stops."""

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flawmap.engine.in_order import PixelBudget, in_order

PATIENCE_S = 20.0


def ample() -> PixelBudget:
    return PixelBudget(10**9)


@given(
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.002]), max_size=12),
    threads=st.integers(1, 4),
    limit=st.integers(1, 30),
    data=st.data(),
)
@settings(max_examples=30, deadline=None)
def test_results_are_in_order_and_at_most_the_budget_and_one_item_are_held(pauses, threads, limit, data):
    sizes = data.draw(st.lists(st.integers(0, 40), min_size=len(pauses), max_size=len(pauses)))
    budget, held, lock, most = PixelBudget(limit), {}, threading.Lock(), 0

    def work(number: int, pause: float) -> int:
        nonlocal most
        budget.take(number, sizes[number])
        with lock:
            held[number] = sizes[number]
            most = max(most, sum(held.values()))
        time.sleep(pause)
        return number

    for expected, number in enumerate(in_order(work, pauses, threads, budget)):
        assert number == expected
        with lock:
            del held[number]
    assert budget.in_use == 0 and most <= limit + max(sizes, default=0)


def test_work_runs_at_the_same_time_in_as_many_threads():
    together = threading.Barrier(3)
    assert list(in_order(lambda number, item: together.wait(PATIENCE_S) >= 0, "abc", 3, ample())) == [True] * 3


def test_only_twice_as_many_as_threads_are_begun_before_the_caller_comes():
    begun, enough = [], threading.Event()

    def work(number: int, item: int) -> int:
        begun.append(item)
        if len(begun) == 4:
            enough.set()
        return item

    results = in_order(work, range(100), 2, ample())
    assert next(results) == 0 and enough.wait(PATIENCE_S)
    time.sleep(0.05)
    assert sorted(begun) == [0, 1, 2, 3]
    results.close()


def test_an_item_that_is_too_large_for_the_budget_is_done_when_it_is_the_first():
    budget, seen = PixelBudget(10), []

    def work(number: int, pixels: int) -> int:
        budget.take(number, pixels)
        seen.append(budget.in_use)
        return number

    assert list(in_order(work, [4, 1000, 4, 4], 4, budget)) == [0, 1, 2, 3]
    assert max(seen) <= 1010


def test_what_one_item_raises_comes_in_its_place_and_the_rest_is_dropped():
    done = []

    def work(number: int, item: str) -> str:
        if item == "c":
            raise KeyError(item)
        done.append(item)
        return item

    results, found = in_order(work, "abcdefghijklmnop", 1, ample()), []
    with pytest.raises(KeyError):
        found.extend(results)
    assert found == ["a", "b"] and set(done) <= set("abde")


def test_a_caller_that_stops_leaves_no_thread_even_if_some_wait_for_the_budget():
    before, waited = threading.active_count(), threading.Event()
    budget = PixelBudget(1)

    def work(number: int, item: int) -> int:
        if number == 2:
            waited.set()
        budget.take(number, 1)
        return item

    results = in_order(work, range(9), 3, budget)
    assert next(results) == 0 and waited.wait(PATIENCE_S)
    results.close()
    assert threading.active_count() == before


def test_the_first_never_waits_and_the_others_do_until_there_is_room():
    budget = PixelBudget(10)
    budget.take(1, 8)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(budget.take, 2, 5)
        budget.take(0, 50)  # however much is in use
        assert not second.done() and budget.in_use == 58
        budget.give_back(0)
        budget.give_back(1)
        second.result(PATIENCE_S)
        third = pool.submit(budget.take, 4, 9)
        budget.cancel()
        with pytest.raises(CancelledError):
            third.result(PATIENCE_S)
