"""Is a memory that was chosen shard by shard as good as one from all tokens at once?

    python -m flawmap_bench.trials.shards mtd elpv --recipe quick --shards 8 --seeds 0 1 2 --output runs/shards

Each board is trained in one shard and in several, with the same settings and seeds, and evaluated on the whole test
set. The last column is the difference that the seeds allow: half a point, or two standard errors of the differences.
What is in the output folder is not computed again. Test labels are for reporting.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean, stdev

from flawmap.engine.tensor_files import read_tensors
from flawmap.evaluate.evaluate_run import evaluate_run
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.run_folder import open_run
from flawmap.train import TrainingOrder, train_run
from flawmap_bench.boards.scoreboard import measured, percent

HALF_A_POINT = 0.005
MEASURES = ("image AUROC", "pixel AUROC", "false alarms", "missed")


def measures_of(location: str, recipe: Recipe, folder: Path) -> dict[str, float]:
    """What a training with these settings gives, with the candidates of its memory and its processor seconds."""
    file = folder / "measures.json"
    if not file.is_file():
        start = time.process_time()
        run = open_run(folder / "run") if (folder / "run").is_dir() else None
        train_run(TrainingOrder(location, recipe, folder / "run"), run)
        seconds = time.process_time() - start
        found = evaluate_run(folder / "run", location)
        candidates = read_tensors(open_run(folder / "run").stage_output("encoding"))["sources"]
        values = {
            "image AUROC": _value(found.image.get("auroc")),
            "pixel AUROC": _value((found.pixel or {}).get("auroc")),
            "false alarms": found.realised_false_alarm_rate,
            "missed": found.missed_rate,
            "candidates": len(candidates),
            "processor s": seconds,
        }
        atomic_write_text(file, json.dumps({name: value for name, value in values.items() if value is not None}))
    return json.loads(file.read_text())


def _value(measure: object) -> float | None:
    return getattr(measure, "value", None)


def allowed_difference(differences: list[float]) -> float:
    """Half a point, or two standard errors of the mean of some differences."""
    if len(differences) < 2:
        return HALF_A_POINT
    return max(HALF_A_POINT, 2 * stdev(differences) / len(differences) ** 0.5)


def table(name: str, count: int, one: list[dict[str, float]], several: list[dict[str, float]]) -> list[str]:
    """Rows for a board: means over the seeds with their standard errors, and the difference of the two."""
    lines = []
    for shards, seeds in ((1, one), (count, several)):
        cells = [percent(measured([seed[measure] for seed in seeds if measure in seed])) for measure in MEASURES]
        numbers = [f"{fmean(seed[key] for seed in seeds):,.0f}" for key in ("candidates", "processor s")]
        lines.append(" | ".join([name, str(shards), *cells, *numbers, ""]))
    differences = [b["image AUROC"] - a["image AUROC"] for a, b in zip(one, several, strict=True)]
    found, allowed = 100 * fmean(differences), 100 * allowed_difference(differences)
    lines[-1] += f"{found:+.2f} of {allowed:.2f}"
    return lines


def main() -> None:
    """Train and evaluate every board in one shard and in several."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boards", nargs="+", metavar="LOCATION", help="a data location with a test set")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one setting")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    header = "| board | shards | image AUROC | pixel AUROC | false alarms, % | missed, % | candidates | processor s |"
    print(f"{header} image AUROC: difference, allowed |")
    for location in arguments.boards:
        found: dict[int, list[dict[str, float]]] = {1: [], arguments.shards: []}
        for seed in arguments.seeds:
            for shards, rows in found.items():
                recipe = load_recipe(arguments.recipe, [*arguments.set, f"seed={seed}", f"memory.shards={shards}"])
                folder = arguments.output / Path(location).name / f"seed-{seed}" / f"{shards}-shards"
                rows.append(measures_of(location, recipe, folder))
            for line in table(Path(location).name, arguments.shards, *found.values()):
                print(f"| {line} |", flush=True)


if __name__ == "__main__":
    main()
