"""Files are given out when they have stayed as they are, once in each state."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flawmap.watch.complete_files import CompleteFiles, FileState


def state(name: str, size: int = 1, time_ns: int = 0) -> FileState:
    return FileState(Path(name), size, time_ns)


def given_out(files: CompleteFiles, states: list[FileState], now_s: float) -> list[FileState]:
    return [file.state for file in files.look(states, now_s)]


def test_a_file_is_complete_when_it_has_not_changed_for_the_settling_time():
    files = CompleteFiles(2.0)
    growing = [state("a", size) for size in (1, 2, 3)]
    assert [given_out(files, [one], float(now)) for now, one in enumerate(growing)] == [[], [], []]
    assert given_out(files, [growing[2]], 3.9) == [] and files.n_settling() == 1
    (file,) = files.look([growing[2]], 4.0)
    assert (file.state, file.seen_s) == (growing[2], 2.0)
    assert given_out(files, [growing[2]], 9.0) == [] and files.n_settling() == 0


def test_a_file_that_changes_or_comes_back_later_is_given_out_again_and_one_that_cannot_be_used_too():
    files = CompleteFiles(0.0)
    assert given_out(files, [state("a")], 0.0) == [state("a")]
    assert given_out(files, [state("a", time_ns=5)], 1.0) == [state("a", time_ns=5)]
    assert given_out(files, [], 2.0) == []
    assert given_out(files, [state("a", time_ns=5)], 3.0) == [state("a", time_ns=5)]
    files.give_again(state("a", time_ns=5))
    assert given_out(files, [state("a", time_ns=5)], 4.0) == [state("a", time_ns=5)]


def test_the_oldest_file_comes_first():
    files = CompleteFiles(0.0)
    states = [state("a", time_ns=3), state("b", time_ns=1), state("c", time_ns=1)]
    assert given_out(files, states, 0.0) == [states[1], states[2], states[0]]


LOOKS = st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), max_size=3), max_size=12)


@given(looks=LOOKS, settle=st.integers(0, 3))
def test_each_state_that_stays_long_enough_is_given_out_once(looks, settle):
    """Against a count by hand: a state is due at the look that is ``settle`` looks after its first in a row."""
    files, n_looks = CompleteFiles(float(settle)), {}
    for now, look in enumerate(looks):
        n_looks = {
            name: (size, n_looks[name][1] + 1 if n_looks.get(name, (None,))[0] == size else 0)
            for name, size in look.items()
        }
        due = {name for name, (_, n) in n_looks.items() if n == settle}
        found = given_out(files, [state(name, size) for name, size in look.items()], float(now))
        assert {str(one.path) for one in found} == due
