"""How fast is detection by several workers of a local cluster, and what do they take?

    python -m flawmap_bench.trials.cluster_rates IMAGES --model MODEL --workers 0 1 2 4 --turns 3

0 workers: ``flawmap detect --workers 1`` in one process. Others: ``--cluster local`` with so many cores, also with more
than there are. Each row is a process of its own, in turns, without pictures; its wall time includes imports, the start
of the cluster and its end. The rate is of the median turn. The efficiency is the rate over that of one process, for
each core that the workers have. The peak of resident memory (VmHWM of Linux) is that of the process with the command,
and of the largest worker, asked for every half second.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from flawmap.cli import main as flawmap
from flawmap_bench.trials.watched_workers import Watch

Row = Mapping[str, float]  # what a command took


def detect(images: Path, model: Path, workers: int, answers: Any) -> None:
    """In a process of its own: detect, and answer with what that took."""
    watch, start = Watch("Scorer"), time.monotonic()
    watch.start()
    how = ["--cluster", "local"] if workers else ["--workers", "1"]
    with tempfile.TemporaryDirectory() as folder, patch("flawmap_cluster.connect.usable_cores", return_value=workers):
        words = ["detect", str(images), "--model", str(model), "--device", "cpu", "--no-overlays", *how]
        with redirect_stdout(StringIO()):
            code = flawmap([*words, "--output", str(Path(folder) / "results")])
        if code:
            raise SystemExit(code)
        scored = (Path(folder) / "results" / "results.jsonl").read_text().count("\n")
    watch.done.set()
    answers.put(
        {
            "images": scored,
            "wall s": time.monotonic() - start,
            "command, processor s": time.process_time(),
            "workers, processor s": sum(watch.seconds.values()),
            "command, peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            "largest worker, peak MB": max(watch.peaks_mb.values(), default=0.0),
        }
    )


def table(turns: Mapping[int, Sequence[Row]], cores: int) -> list[str]:
    """A line for each number of workers, from the turns of each; the first is what efficiency is measured against."""
    names = [name for name in next(iter(turns.values()))[0] if name != "images"]
    lines = [f"workers | images/s | range | efficiency | {' | '.join(names)}", "|".join(["---"] * (4 + len(names)))]
    rates = {workers: [row["images"] / row["wall s"] for row in rows] for workers, rows in turns.items()}
    base = median(next(iter(rates.values())))
    for workers, rows in turns.items():
        found = rates[workers]
        share = median(found) / base / max(min(workers, cores), 1)
        numbers = " | ".join(f"{median(row[name] for row in rows):,.0f}" for name in names)
        spread = f"{min(found):.1f} to {max(found):.1f}"
        lines.append(f"{workers or 'none'} | {median(found):.1f} | {spread} | {100 * share:.0f} % | {numbers}")
    return [f"| {line} |" for line in lines]


def main() -> None:
    """Detect with each number of workers, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", metavar="IMAGES", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    turns: dict[int, list[Row]] = {workers: [] for workers in arguments.workers}
    for _ in range(arguments.turns):
        for workers, rows in turns.items():
            answers = context.Queue()
            process = context.Process(target=detect, args=(arguments.images, arguments.model, workers, answers))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)
            rows.append(answers.get())
    print("\n".join(table(turns, len(os.sched_getaffinity(0)))))


if __name__ == "__main__":
    main()
