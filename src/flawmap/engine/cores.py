"""How many cores this process may use."""

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of processor time per period, and the period


def usable_cores(quota: Path = QUOTA) -> int:
    """Cores that this process may use, at least 1: those it is bound to, and no more than its container's share.

    Args:
        quota: the file of the share, which need not exist.
    """
    bound_to = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text(encoding="ascii").split()
        return max(1, min(bound_to, math.ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return bound_to


def reading_threads(device: str) -> int:
    """Threads that read images ahead: one where a processor computes, and all cores where an accelerator does."""
    return 1 if device == "cpu" else usable_cores()
