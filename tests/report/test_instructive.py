"""Which images are chosen to be shown."""

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flawmap.report.instructive import most_instructive
from flawmap.report.run_files import ScoredImage

THRESHOLD = 0.5


def image(key: str, is_anomalous: bool, score: float) -> ScoredImage:
    return ScoredImage(key, Path(key), "x" if is_anomalous else "good", is_anomalous, score, score > THRESHOLD)


def test_each_group_is_in_its_order() -> None:
    images = [
        image("miss-near", True, 0.45),
        image("miss-far", True, 0.05),
        image("alarm-near", False, 0.55),
        image("alarm-far", False, 0.95),
        image("found-near", True, 0.52),
        image("passed-near", False, 0.49),
        image("passed-far", False, 0.01),
        image("found-far", True, 0.99),
        image("found-farther", True, 1.0),
    ]
    chosen = most_instructive(images, THRESHOLD, count=8)
    assert [(choice.reason, choice.image.key) for choice in chosen] == [
        ("missed", "miss-far"),
        ("missed", "miss-near"),
        ("false alarm", "alarm-far"),
        ("false alarm", "alarm-near"),
        ("found", "found-farther"),
        ("found", "found-far"),
        ("close call", "passed-near"),
        ("close call", "found-near"),
    ]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=40), st.integers(0, 15))
def test_places_are_all_used_and_never_twice(cases: list[tuple[bool, float]], count: int) -> None:
    images = [image(f"{i:02d}", is_anomalous, score) for i, (is_anomalous, score) in enumerate(cases)]
    chosen = most_instructive(images, THRESHOLD, count)
    assert len(chosen) == min(count, len(images))
    assert max(Counter(choice.image.key for choice in chosen).values(), default=1) == 1
    for choice in chosen:
        is_wrong = choice.image.is_anomalous != choice.image.is_flagged
        assert is_wrong == (choice.reason in ("missed", "false alarm"))
        assert choice.reason != "found" or choice.image.is_anomalous


def test_each_reason_has_a_quarter_of_the_places_when_all_have_plenty() -> None:
    images = [image(f"m{i}", True, 0.1) for i in range(9)] + [image(f"a{i}", False, 0.9) for i in range(9)]
    images += [image(f"h{i}", True, 0.8) for i in range(9)] + [image(f"c{i}", False, 0.4) for i in range(9)]
    reasons = Counter(choice.reason for choice in most_instructive(images, THRESHOLD, 20))
    assert reasons == {"missed": 5, "false alarm": 5, "found": 5, "close call": 5}


def test_a_perfect_run_shows_hits_as_well_as_close_calls() -> None:
    images = [image(f"h{i}", True, 0.6 + i / 100) for i in range(30)] + [image(f"p{i}", False, 0.2) for i in range(30)]
    reasons = Counter(choice.reason for choice in most_instructive(images, THRESHOLD, 20))
    assert reasons == {"found": 5, "close call": 15}
