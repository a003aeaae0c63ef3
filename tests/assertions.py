"""What tests check about files and errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
