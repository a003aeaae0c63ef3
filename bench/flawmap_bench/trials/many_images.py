"""How much memory and time does a training on very many images take, by how many workers?

    python -m flawmap_bench.trials.many_images mtd --images 100000 --workers 0 1 2 4 --output runs/many

The images are crops of the good images of a board, of the side that the encoder sees, so that reading and encoding
are cheap and their number counts. What a training does before and after the fit (the check of the files, the report)
is left out. 0 workers: in one process. Others: a local cluster with so many cores, also with more than there are. The
peak of resident memory (VmHWM of Linux) is that of the process with the command, and of the largest worker, asked for
every half second.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.open_data import open_training_data
from flawmap.data.sample import NormalImage
from flawmap.detect.fit import fit_scorer
from flawmap.engine.compute import choose_compute
from flawmap.engine.elsewhere import Work, here
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import DataSettings
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.run_folder import create_run
from flawmap_bench.trials.watched_workers import Watch
from flawmap_cluster.train import in_cluster

FOLDERS_OF = 1000  # images


def write_crops(location: str, count: int, side_px: int, folder: Path) -> Path:
    """So many different crops of the good images of a board, as JPEG files; returns their folder."""
    if (folder / "complete").is_file():
        return folder / "images"
    paths = [image.path for image in open_training_data(location, DataSettings()).images]
    generator, number = np.random.default_rng(0), 0
    for place, path in enumerate(paths):
        pixels = read_image(path)
        last = (count * (place + 1)) // len(paths)
        places = [(pixels.shape[0] - side_px + 1), (pixels.shape[1] - side_px + 1)]
        chosen = generator.choice(places[0] * places[1], last - number, replace=False)
        for top, left in zip(*np.unravel_index(chosen, places), strict=True):
            file = folder / "images" / f"{number // FOLDERS_OF:04d}" / f"{number:06d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[top : top + side_px, left : left + side_px]).convert("L").save(file, quality=95)
            number += 1
    (folder / "complete").touch()
    return folder / "images"


def train(images: Path, changes: list[str], workers: int, run: Path, answers: Any) -> None:
    """In a process of its own: train, and answer with peaks and times."""
    watch, encoding_s = Watch("Worker"), 0.0
    watch.start()

    def timed(work: Work, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        nonlocal encoding_s
        start = time.monotonic()
        with patch("flawmap_cluster.connect.usable_cores", return_value=workers):  # also more than there are
            yield from (in_cluster("local") if workers else here)(work, tasks)
        encoding_s += time.monotonic() - start

    start, recipe = time.monotonic(), load_recipe("quick", changes)
    found = [NormalImage(path.name, path, sha256=path.stem) for path in sorted(images.rglob("*.jpg"))]
    fit_scorer(found, recipe, create_run(run, "many", recipe), choose_compute("cpu", "fp32"), elsewhere=timed)
    watch.done.set()
    answers.put(
        {
            "wall s": time.monotonic() - start,
            "encoding, wall s": encoding_s,
            "command, processor s": time.process_time(),
            "workers, processor s": sum(watch.seconds.values()),
            "command, peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            "largest worker, peak MB": max(watch.peaks_mb.values(), default=0.0),
        }
    )


def main() -> None:
    """Train with each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("location", metavar="LOCATION", help="a data location with good images")
    parser.add_argument("--images", type=int, nargs="+", default=[100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[0])
    parser.add_argument("--side", type=int, default=56, help="of a crop, in px; a multiple of 14 (default: 56)")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one setting of quick")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    context, header = multiprocessing.get_context("spawn"), ""
    for count in arguments.images:
        crops = write_crops(arguments.location, count, arguments.side, arguments.output / f"crops-{count}")
        for workers in arguments.workers:
            file = arguments.output / f"{count}-images-{workers}-workers.json"
            if not file.is_file():
                changes = ["method=memory", f"data.image_size_px={arguments.side}", *arguments.set]
                answers, run = context.Queue(), arguments.output / f"run-{count}-{workers}" / "run"
                process = context.Process(target=train, args=(crops, changes, workers, run, answers))
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(process.exitcode)
                atomic_write_text(file, json.dumps(answers.get()))
            row = json.loads(file.read_text())
            if not header:
                header = " | ".join(["images", "workers", *row])
                print(f"| {header} |", flush=True)
            numbers = " | ".join(f"{value:,.0f}" for value in row.values())
            print(f"| {count:,} | {workers} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
