"""A command in a process of its own, and what it took.

Peak memory is not taken from here: Linux counts the memory of the process that has started it as well.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flawmap.errors import UserError


@dataclass(frozen=True)
class Usage:
    """What a process took; processor time is that of all its threads and of the processes that it waited for."""

    wall_seconds: float
    processor_seconds: float


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end; what it prints is not shown.

    Args:
        command: the program and its arguments.
        environment: added to that of this process.

    Raises:
        UserError: the exit code is not 0; with the last line that the command printed.
    """
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=output, text=True, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            last = (output.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise UserError(f"exit code {process.returncode}: {last}", " ".join(command), "see what it says")
    return Usage(wall_seconds, usage.ru_utime + usage.ru_stime)
