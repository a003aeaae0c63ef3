"""Compares exported files with their run on a whole test set: what each runtime and precision changes.

``python -m flawmap_bench.speed.export_parity RUN DATA`` exports the run in every format, scores all labelled images of
DATA with the run and with each file, and prints one table.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from flawmap.data.open_data import open_test_data
from flawmap.deploy.export import export_model
from flawmap.deploy.parity import CheckImage, Parity, compare
from flawmap.deploy.runtime import EXTENSIONS, ExportedModel, load
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap_bench.speed.detection_ratios import EXPORTS

REPORT_EVERY = 50  # images


def write_all(detector: AnomalyDetector, folder: Path, image: CheckImage) -> dict[str, tuple[ExportedModel, float]]:
    """Every format that the run can be exported to here: the opened file and its size in MB, by label.

    Args:
        detector: the run.
        folder: for the files.
        image: what each file is checked on first; a file that is judged by the check and fails it is left out.
    """
    written = {}
    for label, to, precision in EXPORTS[detector.recipe.encoder_precision]:
        path = folder / f"{to}-{precision}{EXTENSIONS[to]}"
        try:
            export_model(detector, path, to, [image], precision)
        except UserError as error:  # an optional package is not installed
            say("left out", f"{label}: {error.problem}")
            continue
        if not path.is_file():
            say("left out", f"{label}: the file's answers differ from the run's")
            continue
        megabytes = sum(file.stat().st_size for file in folder.glob(f"{path.stem}.*")) / 1e6
        written[label] = load(path, torch.get_num_threads()), megabytes
    return written


def parity_table(parities: dict[str, Parity], megabytes: dict[str, float]) -> str:
    """Markdown, a row per file; differences are the largest over all images and pixels."""
    lines = [
        "| file | MB | score differs by | map differs by | verdicts changed | image AUROC, run and file |",
        "|---|---|---|---|---|---|",
    ]
    for label, parity in parities.items():
        aurocs = ", ".join(f"{100 * auroc:.2f}" for auroc in parity.auroc) if parity.auroc else "–"
        differences = f"{parity.max_score_difference:.2g} | {parity.max_map_difference:.2g}"
        changed = f"{parity.n_verdicts_changed} of {parity.n}"
        lines.append(f"| {label} | {megabytes[label]:.0f} | {differences} | {changed} | {aurocs} |")
    return "\n".join(lines)


def evenly(images: Sequence[CheckImage], count: int | None) -> list[CheckImage]:
    """All images, or ``count`` of them, evenly spaced in their order."""
    if count is None or count >= len(images):
        return list(images)
    return [images[number * len(images) // count] for number in range(count)]


def main(words: Sequence[str] | None = None) -> int:
    """``RUN DATA [--count N]``: print the table; 2 when the run or the data cannot be opened."""
    parser = argparse.ArgumentParser(prog="python -m flawmap_bench.speed.export_parity", description=__doc__)
    parser.add_argument("run", help="a run or model folder")
    parser.add_argument("data", help="labelled test images, as for flawmap evaluate")
    parser.add_argument("--count", type=int, default=None, help="number of images, evenly spaced (default: all)")
    arguments = parser.parse_args(words)
    try:
        print(_measured(arguments.run, arguments.data, arguments.count))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _measured(run: str, data: str, count: int | None) -> str:
    detector = AnomalyDetector.from_pretrained(run, "cpu")
    samples = open_test_data(data, detector.recipe.data).samples
    images = evenly([CheckImage(sample.path, sample.is_anomalous) for sample in samples], count)
    with tempfile.TemporaryDirectory(prefix="flawmap-parity-") as folder:
        files = write_all(detector, Path(folder), images[0])
        parities = {label: compare(detector, model, images, _report) for label, (model, _) in files.items()}
    table = parity_table(parities, {label: megabytes for label, (_, megabytes) in files.items()})
    return f"{len(images)} of {len(samples)} test images of {data}, run {run}.\n\n{table}"


def _report(done: int, total: int) -> None:
    if done % REPORT_EVERY == 0 or done == total:
        say("parity", f"{done} of {total} images")


if __name__ == "__main__":
    sys.exit(main())
