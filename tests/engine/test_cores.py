"""The cores that this process may use: those it is bound to, and no more than its container's share."""

import os
import sys

import pytest

from flawmap.engine.cores import usable_cores

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems bind no process")


@pytest.fixture
def bound_to_one():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_a_process_that_is_bound_to_one_core_has_one(bound_to_one, tmp_path):
    assert usable_cores(tmp_path / "none") == 1


@pytest.mark.parametrize(
    ("share", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("6400000 100000", 8)],
)
def test_a_containers_share_is_rounded_up_to_whole_cores(monkeypatch, tmp_path, share, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    (tmp_path / "cpu.max").write_text(f"{share}\n")
    assert usable_cores(tmp_path / "cpu.max") == cores
    assert usable_cores(tmp_path / "none") == 8


def test_a_system_that_binds_no_process_has_all_cores(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path / "none") == 6
