"""A store in memory, empty in every test, and a cache of copies of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """The file system behind ``memory://``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FLAWMAP_CACHE_GB", raising=False)
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield found
    found.store.clear()
