"""A folder has one process at a time, and is free again when that has ended, however it ended."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flawmap.errors import UserError
from flawmap.runs.result_folders import exclusive

pytestmark = pytest.mark.usefixtures("small_heads")

HOLD = """
import sys, time
from pathlib import Path
from flawmap.runs.result_folders import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_and_the_folder_is_free_after_a_kill(tmp_path: Path):
    folder = tmp_path / "run"
    source = str(Path(sys.modules["flawmap"].__file__ or "").parents[1])
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": source}) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process works in this folder") as caught, exclusive(folder):
            pass
        assert caught.value.place == str(folder)
        holder.kill()
    for _ in range(100):
        try:
            with exclusive(folder):
                return
        except UserError:
            time.sleep(0.05)
    pytest.fail("the folder stayed held")
