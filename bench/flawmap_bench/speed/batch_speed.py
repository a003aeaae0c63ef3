"""``flawmap detect`` as users call it: a folder with two cores against one, and a single image from a cold start."""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flawmap_bench.speed.measured_process import Usage, run_measured
from flawmap_bench.speed.turns import Spread


@dataclass(frozen=True)
class Scored:
    """A batch that was scored with one and with two cores, once each or in turns."""

    num_images: int
    with_overlays: bool
    one_core: list[Usage]
    two_cores: list[Usage]


def detect(model: Path, images: Path, output: Path, *words: str) -> Usage:
    """One call of ``flawmap detect``.

    Raises:
        UserError: it failed.
    """
    command = [sys.executable, "-m", "flawmap", "detect", str(images), "--model", str(model), "--output", str(output)]
    return run_measured([*command, "--device", "cpu", *words], {"OMP_NUM_THREADS": "1"})


def score_batches(model: Path, images: Path, num_images: int, folder: Path, rounds: int) -> list[Scored]:
    """Score a folder with one core and with two, in turns, with and without overlays."""
    scored = []
    for with_overlays in (True, False):
        words = () if with_overlays else ("--no-overlays",)
        one, two = [], []
        for number in range(rounds):
            for cores, usages in ((1, one), (2, two)):
                output = folder / f"detected-{with_overlays}-{number}-{cores}"
                usages.append(detect(model, images, output, "--workers", str(cores), *words))
        scored.append(Scored(num_images, with_overlays, one, two))
    return scored


def batch_table(scored: Sequence[Scored]) -> str:
    """Markdown: images per second of wall time, and how many times as fast two cores are, start-up included."""
    lines = [
        "| images | overlays | one core, images/s | two cores | times as fast | range | processor time of two / one |",
        "|---|---|---|---|---|---|---|",
    ]
    for batch in scored:
        pairs = list(zip(batch.one_core, batch.two_cores, strict=True))
        speed_up = Spread.of([one.wall_seconds / two.wall_seconds for one, two in pairs])
        work = statistics.median(two.processor_seconds / one.processor_seconds for one, two in pairs)
        rates = [
            batch.num_images / statistics.median(usage.wall_seconds for usage in usages)
            for usages in (batch.one_core, batch.two_cores)
        ]
        overlays = "yes" if batch.with_overlays else "no"
        columns = f"{rates[0]:.2f} | {rates[1]:.2f} | {speed_up.columns(2)} | {work:.2f}"
        lines.append(f"| {batch.num_images:,} | {overlays} | {columns} |")
    return "\n".join(lines)


def start_up(models: dict[str, Path], image: Path, folder: Path, rounds: int) -> dict[str, list[Usage]]:
    """Detect a single image from each model in turns, each time in a new process; the first round is not counted."""
    usages: dict[str, list[Usage]] = {label: [] for label in models}
    for number in range(rounds + 1):
        for position, (label, model) in enumerate(models.items()):
            usage = detect(model, image, folder / f"started-{number}-{position}")
            if number > 0:
                usages[label].append(usage)
    return usages


def start_up_table(usages: dict[str, list[Usage]]) -> str:
    """Markdown: wall and processor time."""
    lines = ["| model | wall, s | range | processor, s | range |", "|---|---|---|---|---|"]
    for label, of_model in usages.items():
        wall = Spread.of([usage.wall_seconds for usage in of_model]).columns(2)
        processor = Spread.of([usage.processor_seconds for usage in of_model]).columns(2)
        lines.append(f"| {label} | {wall} | {processor} |")
    return "\n".join(lines)
