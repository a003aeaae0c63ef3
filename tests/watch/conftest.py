"""Journals of these tests need not survive a failure of the power."""

import pytest

from flawmap.watch import journal


@pytest.fixture(scope="session", autouse=True)
def unsafe_but_fast():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "SYNCHRONOUS", "OFF")
        yield
