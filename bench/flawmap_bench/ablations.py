"""Runs ablation tables: every row with every seed, equal stages once, finished work never again.

A run lies in a folder named by a hash of its recipe, its data and its device, so that a killed benchmark goes on where
it was, rows that come out equal are trained once, and a row that is added later costs only itself.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flawmap.data.checks import check_test_data
from flawmap.data.open_data import open_test_data
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.fit import ALGORITHM_VERSION
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.duration import duration
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.evaluate.evaluate import evaluate
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text, environment, stable_hash
from flawmap.runs.run_folder import RunFolder
from flawmap.train import TrainingOrder, train_run
from flawmap_bench.ablation_rows import AblationRow, AblationTable
from flawmap_bench.data_content import content_of_location
from flawmap_bench.scoreboard import BoardRow, BoardTable, write_scoreboard

# of metrics.json, that a result keeps
MEASURES = ("image_auroc", "pixel_auroc", "image", "pixel", "per_kind", "groups", "image_scores", "per_scale")


@dataclass(frozen=True)
class AblationOrder:
    """What to compare, on what, and where results go.

    Attributes:
        location: a data location with labelled test images.
        base: the common recipe, a preset or a YAML file.
        overrides: changes of it for all rows.
        tables: the rows.
        seeds: each row runs with each of them.
        folder: runs, shared stages and the scoreboard.
        device: to compute on.
        limit_seconds: no run is begun that would probably end later; None for no limit.
    """

    location: str
    base: str
    overrides: tuple[str, ...]
    tables: tuple[AblationTable, ...]
    seeds: tuple[int, ...]
    folder: Path
    device: DeviceName = "auto"
    limit_seconds: float | None = None


@dataclass(frozen=True)
class Work:
    """One training and evaluation; rows with equal recipes share it.

    Attributes:
        recipe: all settings.
        content: of the data, see :mod:`flawmap_bench.data_content`.
        device: that was asked for.
        names: of the rows.
    """

    recipe: Recipe
    content: str
    device: DeviceName
    names: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of its run folder."""
        what = {"recipe": asdict(self.recipe), "data": self.content, "device": self.device}
        return stable_hash(what | {"algorithm": ALGORITHM_VERSION})[:12]


def run_ablations(order: AblationOrder, command: str) -> Path:
    """Run what is missing and write the scoreboard after each run.

    Returns:
        the path of scoreboard.md.
    """
    work = planned_work(order)
    missing = [item for item in work if read_result(order.folder, item) is None]
    say("ablations", f"{len(work)} runs, {len(work) - len(missing)} done, {len(missing)} to do -> {order.folder}/")
    order.folder.mkdir(parents=True, exist_ok=True)
    started, slowest = time.monotonic(), 0.0
    failed: dict[Recipe, str] = {}
    for number, item in enumerate(missing):
        elapsed = time.monotonic() - started
        if order.limit_seconds is not None and number and elapsed + slowest > order.limit_seconds:
            say("ablations", f"time limit: {len(missing) - number} runs are left for the next call")
            break
        left = f", about {duration(elapsed / number * (len(missing) - number))} left" if number else ""
        say("ablations", f"run {number + 1}/{len(missing)}{left}: {'; '.join(item.names)}, seed {item.recipe.seed}")
        began = time.monotonic()
        try:
            _run(order, item)
        except UserError as error:  # a variant that collapses must not cost the others; the next call tries it again
            say("ablations", f"{'; '.join(item.names)}: {error.problem}")
            failed[item.recipe] = error.problem
        slowest = max(slowest, time.monotonic() - began)
        _write_board(order, command, failed)
    return _write_board(order, command, failed)


def planned_work(order: AblationOrder) -> tuple[Work, ...]:
    """Every different recipe once, seed by seed, so that an early stop leaves whole tables of fewer seeds."""
    names: dict[Recipe, list[str]] = {}
    for seed in order.seeds:
        for table in order.tables:
            for row in table.rows:
                names.setdefault(recipe_of_row(order, row, seed), []).append(row.name)
    return tuple(work_of(order, recipe, tuple(of_recipe)) for recipe, of_recipe in names.items())


def work_of(order: AblationOrder, recipe: Recipe, names: tuple[str, ...] = ()) -> Work:
    """A recipe on the order's data as they are now."""
    return Work(recipe, content_of_location(order.location, recipe.data), order.device, names)


def recipe_of_row(order: AblationOrder, row: AblationRow, seed: int) -> Recipe:
    """The common recipe with the row's changes.

    Raises:
        UserError: a change that is no setting, or out of range.
    """
    return replace(load_recipe(order.base, (*order.overrides, *row.changes)), seed=seed)


def read_result(folder: Path, work: Work) -> dict[str, Any] | None:
    """What a finished run measured; None where it is not finished."""
    path = _run_path(folder, work) / "ablation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def board(order: AblationOrder, failed: Mapping[Recipe, str]) -> tuple[BoardTable, ...]:
    """The tables with what has been measured so far, and why a row could not be."""
    tables = []
    for table in order.tables:
        rows = []
        for row in table.rows:
            image: dict[int, float] = {}
            pixel: dict[int, float] = {}
            seconds: dict[int, float] = {}
            notes: list[str] = []
            for seed in order.seeds:
                recipe = recipe_of_row(order, row, seed)
                result = read_result(order.folder, work_of(order, recipe))
                if result is None:
                    notes += [f"seed {seed}: {failed[recipe]}"] if recipe in failed else []
                    continue
                seconds[seed] = result["train_seconds"]
                notes += [f"seed {seed}: stage 1 ended with uniform targets"] if result.get("stage_1_collapsed") else []
                if result["image_auroc"] is not None:
                    image[seed] = result["image_auroc"]
                if result["pixel_auroc"] is not None:
                    pixel[seed] = result["pixel_auroc"]
            rows.append(BoardRow(row.name, image, pixel, seconds, row.published, "; ".join(notes)))
        tables.append(BoardTable(table.title, tuple(rows)))
    return tuple(tables)


def _run(order: AblationOrder, work: Work) -> None:
    """Train (or go on training) and evaluate one recipe; its result is written last."""
    path = _run_path(order.folder, work)
    begun = _begun_run(path)
    started = time.monotonic()
    if begun is None or not begun.is_finished:
        train_run(TrainingOrder(order.location, work.recipe, path, order.device), begun)
    train_seconds = time.monotonic() - started
    detector = AnomalyDetector.from_pretrained(path, order.device)
    data = check_test_data(open_test_data(order.location, work.recipe.data))
    metrics = evaluate(detector, data, None, progress=_silent)
    result = {
        **{name: metrics[name] for name in MEASURES},
        "n_good": metrics["n_good"],
        "n_anomalous": metrics["n_anomalous"],
        "names": list(work.names),
        "seed": work.recipe.seed,
        "train_seconds": train_seconds,
        "went_on": begun is not None,
        "stage_1_collapsed": _stage_1_collapsed(RunFolder(path)),
        "seconds_per_image": metrics["seconds_per_image"],
    }
    atomic_write_text(path / "ablation.json", json.dumps(result, indent=2))


def _stage_1_collapsed(run: RunFolder) -> bool:
    """Whether the watch's last word was so; objectives run for comparison are not stopped by it."""
    about = run.stage_output("pretrain").with_suffix(".json")
    return about.is_file() and bool(json.loads(about.read_text(encoding="utf-8"))["last"].get("collapsed"))


def _begun_run(path: Path) -> RunFolder | None:
    """What a killed benchmark left of a run; a folder that it had only just made is taken away."""
    if (path / "recipe.yaml").is_file():
        return RunFolder(path)
    if path.is_dir():
        for half_made in path.glob(".recipe.yaml.*.tmp"):
            half_made.unlink()
        path.rmdir()  # refuses a folder with anything else in it
    return None


def _run_path(folder: Path, work: Work) -> Path:
    return folder / "runs" / work.key


def _silent(done: int, total: int) -> None:
    """Ablations report per run, not per image."""


def _write_board(order: AblationOrder, command: str, failed: Mapping[Recipe, str]) -> Path:
    return write_scoreboard(order.folder, board(order, failed), about_order(order, command))


def about_order(order: AblationOrder, command: str) -> dict[str, str]:
    """What a reader of a scoreboard needs to repeat it."""
    device = choose_compute(order.device).device
    machine = environment(device)
    return {
        "command": command,
        "data": order.location,
        "base recipe": " ".join((order.base, *order.overrides)),
        "seeds": ", ".join(str(seed) for seed in order.seeds),
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['device_name'] or device}",
        "values": "AUROC in %, last step, mean ± standard error over seeds",
    }
