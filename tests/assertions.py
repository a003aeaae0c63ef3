"""What tests check about files, errors and scores."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from flawmap.errors import UserError


def files_and_bytes(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, to show that nothing was changed."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@contextmanager
def mistake(problem: str, place: str | Path, remedy: str) -> Iterator[None]:
    """Expect a UserError with exactly this problem and place; the remedy may hold more."""
    with pytest.raises(UserError) as caught:
        yield
    assert caught.value.problem == problem
    assert caught.value.place == str(place)
    assert remedy in caught.value.remedy and remedy


def explained(call: Callable[[], object]) -> UserError:
    """The UserError that a call raises."""
    with pytest.raises(UserError) as caught:
        call()
    return caught.value


def assert_explained(said, problem: tuple[str, ...], place: str, remedy: tuple[str, ...]) -> None:
    """The answer of a command to a mistake: exit code 2, nothing on stdout, and on stderr problem, place and remedy.

    Args:
        said: the command's answer.
        problem: what the first line must contain.
        place: what the second line must contain; "" where the problem names it already.
        remedy: what the last line must contain.
    """
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err and "bug" not in said.err
    first, *_, last = lines = said.err[said.err.index("error: ") :].splitlines()
    assert all(part in first for part in problem), first
    assert last.startswith("remedy: ") and all(part in last for part in remedy), last
    if place:
        assert lines[1].startswith("  at: ") and place in lines[1], lines[1]


def quantised_scores(scores: ArrayLike) -> NDArray[np.float32]:
    """Scores rounded towards zero to 11 bits after the leading one, which leaves one number for each fine bin."""
    values = np.ascontiguousarray(scores, np.float32)
    bits = values.view(np.uint32) & np.uint32(0xFFFFF000)
    return bits.view(np.float32).reshape(np.shape(scores)) + np.float32(0)  # -0.0 + 0.0 is +0.0
