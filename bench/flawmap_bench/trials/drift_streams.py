"""How soon a changed camera is warned of, and whether an unchanged one is: streams of real images in random orders.

Each image is scored once as it is and once for each change; the streams are made of these scores. Every stream has 5 %
of defective images, as they are. An unchanged one shows every good image ``PASSES`` times; a changed one shows
``BEFORE`` unchanged images first, and then changed ones.

    python -m flawmap_bench.trials.drift_streams RUN --good FOLDER ... --defects FOLDER ...
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from flawmap import AnomalyDetector
from flawmap.data.images.files import read_image
from flawmap.data.layouts.image_folders import images_in
from flawmap.deploy.drift_watch import DriftWatch
from flawmap.detect.detection import APPEARANCE_DISTANCE
from flawmap.reproducibility import numpy_generator
from flawmap.runs.calibration import Calibration

DEFECTIVE, BEFORE, PASSES = 0.05, 200, 10
Pixels = NDArray[np.uint8]
Scores = NDArray[np.float64]  # (n, 2): the score that decides, and the appearance's distance


def _gamma(exponent: float) -> Callable[[Pixels], Pixels]:
    table = (255 * (np.arange(256) / 255) ** exponent).round().astype(np.uint8)
    return lambda pixels: table[pixels]


def _blurred(radius_px: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius_px)))


def _cropped(pixels: Pixels) -> Pixels:
    rows, columns = (max(1, round(0.05 * side)) for side in pixels.shape[:2])
    return pixels[rows:-rows, columns:-columns]


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda pixels: pixels,
    "gamma 0.7": _gamma(0.7),
    "gamma 1.4": _gamma(1.4),
    "blur, 1 px": _blurred(1.0),
    "blur, 2 px": _blurred(2.0),
    "5 % cut off at each side": _cropped,
}


def score(detector: AnomalyDetector, paths: Sequence[Path], change: Callable[[Pixels], Pixels]) -> Scores:
    """Both measures of each image."""
    rows = []
    for path in paths:
        scores = detector.analyse(change(read_image(path))).scores
        rows.append((scores[detector.recipe.detect.image_score], scores[APPEARANCE_DISTANCE]))
    return np.array(rows, np.float64)


def images_to_warning(calibration: Calibration | None, stream: Scores, unchanged: int) -> tuple[int | None, str]:
    """Images after the first ``unchanged`` until a warning, None without one; and what has moved."""
    watch = DriftWatch(calibration)
    for number, (value, distance) in enumerate(stream.tolist(), 1):
        watch.see({APPEARANCE_DISTANCE: distance}, value, str(number))
        if watch.warnings:
            return number - unchanged, " and ".join(watch.warnings)
    return None, ""


def with_defects(good: Scores, defects: Scores, generator: np.random.Generator) -> Scores:
    """The same stream, in which some images are defective ones."""
    is_defective = generator.random(len(good)) < DEFECTIVE
    return np.where(is_defective[:, None], defects[generator.integers(len(defects), size=len(good))], good)


def orders(scores: Scores, passes: int, generator: np.random.Generator) -> Scores:
    """All rows so many times, each time in another order."""
    return np.concatenate([scores[generator.permutation(len(scores))] for _ in range(passes)])


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many, evenly spread."""
    return [paths[number] for number in np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)]


def main() -> None:
    """Print a line for each change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--good", nargs="+", type=Path, required=True, help="folders of good images, not trained on")
    parser.add_argument("--defects", nargs="+", type=Path, required=True)
    parser.add_argument("--leave-out", type=Path, help="a folder whose names are left out: those of the training")
    parser.add_argument(
        "--most", type=int, default=10_000, help="good images that are used, and a third as many defects"
    )
    parser.add_argument("--streams", type=int, default=20)
    arguments = parser.parse_args()
    seen = {path.name for path in arguments.leave_out.iterdir()} if arguments.leave_out else set()
    good, defects = (
        [path for folder in folders for path in images_in(folder).images if path.name not in seen]
        for folders in (arguments.good, arguments.defects)
    )
    good, defects = evenly(good, arguments.most), evenly(defects, arguments.most // 3)
    detector = AnomalyDetector.from_pretrained(arguments.run, "cpu", threads=1)
    of_defects, started = score(detector, defects, CHANGES["none"]), time.process_time()
    unchanged = score(detector, good, CHANGES["none"])
    levels = DriftWatch(detector.calibration_).levels
    print(f"{len(good)} good and {len(defects)} defective images, {arguments.streams} streams for each change")
    print("| change | above the level: scores, appearance | warned of | images until then: median, most | moved |")
    print("|---|---|---|---|---|")
    for name, change in CHANGES.items():
        changed = unchanged if name == "none" else score(detector, good, change)
        above = [100 * float((changed[:, column] > level).mean()) for column, level in enumerate(levels.values())]
        found, moved = [], []
        for seed in range(arguments.streams):
            generator = numpy_generator(seed, "drift streams")
            before = orders(unchanged, 2, generator)[:BEFORE] if name != "none" else unchanged[:0]
            stream = np.concatenate([before, orders(changed, PASSES, generator)])
            after, what = images_to_warning(
                detector.calibration_, with_defects(stream, of_defects, generator), len(before)
            )
            found += [] if after is None else [after]
            moved += [what] if what else []
        until = f"{np.median(found):.0f}, {max(found)}" if found else "-"
        what = max(set(moved), key=moved.count) if moved else "-"
        shares = ", ".join(f"{share:.0f} %" for share in above)
        print(f"| {name} | {shares} | {len(found)} of {arguments.streams} | {until} | {what} |", flush=True)
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
