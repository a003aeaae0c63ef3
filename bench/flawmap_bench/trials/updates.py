"""Is a model that was updated as good as one that was trained on all images, and what does an update cost?

    python -m flawmap_bench.trials.updates mtd elpv/cell=mono,poly --recipe quick --seeds 0 1 2 --output runs/updates

A board is a data location whose good images are learned in two halves (every second one by name), or LOCATION/NAME=A,B,
where those of one stratum are learned first. Three models are evaluated on the whole test set: trained on the first
images; updated with the others; trained on all. A fourth one is updated with ten images, for its time. What is in the
output folder is not computed again. Test labels are for reporting.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from flawmap.data.open_data import open_training_data
from flawmap.data.sample import NormalImage
from flawmap.evaluate.evaluate_run import evaluate_run
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.json_files import write_csv
from flawmap.train import TrainingOrder, train_run
from flawmap.update import UpdateOrder, undo_update, update_run
from flawmap_bench.boards.scoreboard import measured, percent

FEW = 10  # images of the update whose time counts
FIRST, UPDATED, TOGETHER = "trained on the first images", "updated with the others", "trained on all"
TEN = f"updated with {FEW} images"


@dataclass(frozen=True)
class Board:
    """Where the first images, the others, ten of the others and all of them are, and the test set."""

    name: str
    first: str
    others: str
    ten: str
    together: str


def board_of(text: str, recipe: Recipe, folder: Path) -> Board:
    """The board that an argument names; lists of images are written to a folder."""
    location, _, stratum = text.rpartition("/") if "=" in text else (text, "", "")
    name = f"{Path(location).name}, {stratum or 'halves'}"
    if stratum:
        key, _, values = stratum.partition("=")
        one, other = (f"{location}:{key}={value}" for value in values.split(","))
        ten = listed(good_images(other, recipe)[:FEW], folder / f"{name}, ten.csv")
        return Board(name, one, other, ten, location)
    images = sorted(good_images(location, recipe), key=lambda image: image.key)
    one, other = (listed(images[start::2], folder / f"{name}, {start + 1}.csv") for start in (0, 1))
    return Board(name, one, other, listed(images[1 : 2 * FEW : 2], folder / f"{name}, ten.csv"), location)


def good_images(location: str, recipe: Recipe) -> list[NormalImage]:
    """The good images for training."""
    return list(open_training_data(location, recipe.data).images)


def listed(images: list[NormalImage], path: Path) -> str:
    """Write a manifest of good images; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(str(image.path.absolute()), "train", 0) for image in images]
    write_csv(path, ("image", "split", "label"), rows)
    return str(path)


def timed(path: Path, work: Callable[[], object]) -> float:
    """Processor seconds of some work, which is done once; they are kept in a file."""
    if not path.is_file():
        start = time.process_time()
        work()
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, json.dumps(time.process_time() - start))
    return float(json.loads(path.read_text()))


def models_of(board: Board, recipe: Recipe, folder: Path) -> dict[str, dict[str, float]]:
    """Measures of the models of one seed, by name."""
    rows: dict[str, dict[str, float]] = {}
    two_steps, together = folder / "two-steps", folder / "together"

    def row(name: str, run: Path, seconds: float) -> None:
        file = folder / f"{name}.json"
        if not file.is_file():
            found = evaluate_run(run, board.together)
            of_pixels = found.pixel or {}
            measures = {"image AUROC": found.image.get("auroc"), "pixel AUROC": of_pixels.get("auroc")}
            values = {key: measure.value for key, measure in measures.items() if measure is not None}
            rates = {"false alarms": found.realised_false_alarm_rate, "missed": found.missed_rate}
            values |= {key: rate for key, rate in rates.items() if rate is not None}
            atomic_write_text(file, json.dumps(values))
        rows[name] = json.loads(file.read_text()) | {"processor s": seconds}

    def trained(location: str, run: Path) -> Callable[[], object]:
        return lambda: train_run(TrainingOrder(location, recipe, run), None)

    row(FIRST, two_steps, timed(folder / "first.time", trained(board.first, two_steps)))
    rows[TEN] = {"processor s": timed(folder / "ten.time", lambda: update_run(two_steps, UpdateOrder(board.ten)))}
    if (two_steps / "current.txt").is_file() and not (folder / "others.time").is_file():
        undo_update(two_steps)
    seconds = timed(folder / "others.time", lambda: update_run(two_steps, UpdateOrder(board.others)))
    row(UPDATED, two_steps, seconds)
    row(TOGETHER, together, timed(folder / "together.time", trained(board.together, together)))
    return rows


def table(name: str, seeds: list[dict[str, dict[str, float]]]) -> list[str]:
    """Rows for a board: means over the seeds with their standard errors."""
    lines = []
    for model in (FIRST, UPDATED, TOGETHER, TEN):
        cells = []
        for measure in ("image AUROC", "pixel AUROC", "false alarms", "missed"):
            cells.append(percent(measured([seed[model][measure] for seed in seeds if measure in seed[model]])))
        cells.append(f"{mean(seed[model]['processor s'] for seed in seeds):.0f}")
        lines.append(" | ".join([name, model, *cells]))
    return lines


def main() -> None:
    """Train, update and evaluate on every board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boards", nargs="+", metavar="BOARD", help="LOCATION, or LOCATION/NAME=A,B")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    print("| board | model | image AUROC | pixel AUROC | false alarms, % | missed, % | processor s |")
    for text in arguments.boards:
        seeds = []
        for seed in arguments.seeds:
            recipe = load_recipe(arguments.recipe, [f"seed={seed}"])
            board = board_of(text, recipe, arguments.output / "lists")
            seeds.append(models_of(board, recipe, arguments.output / board.name / f"seed-{seed}"))
            for line in table(f"{board.name}, {len(seeds)} seeds", seeds):
                print(f"| {line} |", flush=True)


if __name__ == "__main__":
    main()
