"""What the workers of a local Ray cluster take: memory and processor time, from Linux's ``/proc``."""

import os
import threading
from pathlib import Path


class Watch(threading.Thread):
    """Asks for the peak memory and the processor time of the workers of a local cluster while they live.

    Args:
        actor: the class of the workers; Ray names their processes by it.

    Attributes:
        peaks_mb: of each worker, by process id.
        seconds: of a processor, of each worker.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(daemon=True)
        self._names = f"ray::{actor}".encode()
        self.peaks_mb: dict[int, float] = {}
        self.seconds: dict[int, float] = {}
        self.done = threading.Event()

    def run(self) -> None:
        """Look every half second."""
        while not self.done.wait(0.5):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    if (folder / "cmdline").read_bytes().startswith(self._names):
                        self._look_at(folder)
                except OSError:  # it has ended
                    continue

    def _look_at(self, folder: Path) -> None:
        lines = (folder / "status").read_text().splitlines()
        self.peaks_mb[int(folder.name)] = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3
        times = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]  # in user mode, and in the kernel
        self.seconds[int(folder.name)] = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
