"""Folders of tasks: removed at the end of a task, and by a later one where a task was killed."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock

from flawmap_cluster.scratch import HELD, PREFIX, YOUNG_S, remove_left, scratch_folder


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def grow_old(folder: Path) -> None:
    then = time.time() - 2 * YOUNG_S
    os.utime(folder, (then, then))


def test_a_task_has_an_empty_folder_that_goes_with_it(parent: Path):
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == [] and parent in folder.parents
        (folder / "model").write_text("large")
        grow_old(folder.parent)
        with scratch_folder() as other:  # of a task beside it, which leaves the first one's
            assert other.parent != folder.parent
        assert (folder / "model").is_file()
    assert list(parent.iterdir()) == []


def test_the_folder_of_a_killed_task_is_removed_once_it_is_not_young(parent: Path):
    code = "import os, signal\nfrom flawmap_cluster.scratch import scratch_folder\n"
    code += "with scratch_folder() as folder:\n (folder / 'run').mkdir()\n os.kill(os.getpid(), signal.SIGKILL)\n"
    environment = os.environ | {"TMPDIR": str(parent), "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode != 0
    (left,) = parent.iterdir()
    assert (left / "task" / "run").is_dir()
    remove_left(parent)
    assert left.is_dir()
    grow_old(left)
    with scratch_folder():
        assert not left.exists()


def test_what_is_no_task_of_ours_stays(parent: Path):
    held, unlocked, other = (parent / name for name in (f"{PREFIX}held", f"{PREFIX}new", "flawmap-mine"))
    for folder in (held, unlocked, other):
        folder.mkdir()
    elsewhere = parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / HELD).touch()
    link = parent / f"{PREFIX}link"
    link.symlink_to(elsewhere, target_is_directory=True)
    (other / HELD).touch()
    with FileLock(held / HELD):
        for folder in (held, unlocked, other, elsewhere):
            grow_old(folder)
        os.utime(link, (0, 0), follow_symlinks=False)
        remove_left(parent)
        assert all(path.exists() for path in (held, unlocked, other, elsewhere, link))
