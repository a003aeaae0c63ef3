"""Runs ablation tables: every row with every seed, equal stages once, finished runs never again.

A run lies in a folder named by a hash of its recipe, its data and its device. So a killed benchmark resumes where it
was, rows with equal recipes are trained once, and a row that is added later costs only itself.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flawmap.data.checks import check_test_data
from flawmap.data.open_data import open_test_data
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.fit import ALGORITHM_VERSION
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.progress import duration, say
from flawmap.errors import UserError
from flawmap.evaluate.evaluate import evaluate
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text, environment, stable_hash
from flawmap.runs.run_folder import RunFolder
from flawmap.train import TrainingOrder, train_run
from flawmap_bench.boards.ablation_tables import CPU_BASE, AblationRow, AblationTable, row_recipe
from flawmap_bench.boards.data_content import content_of_location
from flawmap_bench.boards.variants import VariantRow, VariantTable, write_variant_board

# the keys of metrics.json that a result keeps
MEASURES = ("image", "pixel", "by_kind", "image_scores", "per_scale")


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
        limit_seconds: a run that would probably end later is not started; None for no limit.
    """

    location: str
    base: str
    overrides: tuple[str, ...]
    tables: tuple[AblationTable, ...]
    seeds: tuple[int, ...]
    folder: Path
    device: DeviceName = "auto"
    limit_seconds: float | None = None


PUBLISHED_FOR = "MVTec AD, mean of 15 classes"  # the numbers in tables/, whatever data is measured


@dataclass(frozen=True)
class Work:
    """One training and evaluation; rows with equal recipes share it.

    Attributes:
        recipe: all settings.
        content: of the data, see :mod:`flawmap_bench.boards.data_content`.
        device: as asked for.
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


Rows = Callable[[AblationOrder, Sequence[Work]], Iterator[tuple[Work, str | None]]]


def run_ablations(order: AblationOrder, command: str, rows: Rows | None = None) -> Path:
    """Run what is missing and write the scoreboard after each run.

    Args:
        order: what to run.
        command: for the record.
        rows: trains and evaluates what is missing, in any order, and gives each piece of work when it is done, with
            the reason where it failed; None does so here, one after the other.

    Returns:
        the path of scoreboard.md.
    """
    work = planned_work(order)
    missing = [item for item in work if read_result(order.folder, item) is None]
    say("ablations", f"{len(work)} runs, {len(work) - len(missing)} done, {len(missing)} to do -> {order.folder}/")
    order.folder.mkdir(parents=True, exist_ok=True)
    failures: dict[Recipe, str] = {}
    for item, problem in (rows or one_by_one)(order, missing):
        if problem is not None:  # a variant that collapses must not stop the others; the next call tries it again
            say("ablations", f"{'; '.join(item.names)}: {problem}")
            failures[item.recipe] = problem
        _write_board(order, command, failures)
    return _write_board(order, command, failures)


def one_by_one(order: AblationOrder, missing: Sequence[Work]) -> Iterator[tuple[Work, str | None]]:
    """Train and evaluate in this process; see :func:`run_ablations`."""
    started, slowest = time.monotonic(), 0.0
    for number, item in enumerate(missing):
        elapsed = time.monotonic() - started
        if order.limit_seconds is not None and number and elapsed + slowest > order.limit_seconds:
            say("ablations", f"time limit: {len(missing) - number} runs remain for the next call")
            break
        remaining = f", about {duration(elapsed / number * (len(missing) - number))} left" if number else ""
        names = "; ".join(item.names)
        say("ablations", f"run {number + 1}/{len(missing)}{remaining}: {names}, seed {item.recipe.seed}")
        run_started, problem = time.monotonic(), None
        try:
            train_and_evaluate(order, item)
        except UserError as error:
            problem = error.problem
        slowest = max(slowest, time.monotonic() - run_started)
        yield item, problem


def planned_work(order: AblationOrder) -> tuple[Work, ...]:
    """Every different recipe once, seed by seed, so that an early stop leaves whole tables of fewer seeds."""
    names: dict[Recipe, list[str]] = {}
    for seed in order.seeds:
        for table in order.tables:
            for row in table.rows:
                names.setdefault(recipe_of_row(order, row, seed), []).append(row.name)
    return tuple(work_for(order, recipe, tuple(row_names)) for recipe, row_names in names.items())


def work_for(order: AblationOrder, recipe: Recipe, names: tuple[str, ...] = ()) -> Work:
    """A recipe on the order's data as they are now."""
    return Work(recipe, content_of_location(order.location, recipe.data), order.device, names)


def recipe_of_row(order: AblationOrder, row: AblationRow, seed: int) -> Recipe:
    """The common recipe with the row's changes.

    Raises:
        UserError: as :func:`row_recipe`.
    """
    return replace(row_recipe(order.base, order.overrides, row), seed=seed)


def run_path(folder: Path, work: Work) -> Path:
    """The run folder of a piece of work."""
    return folder / "runs" / work.key


def read_result(folder: Path, work: Work) -> dict[str, Any] | None:
    """What a finished run measured; None where it is not finished."""
    path = run_path(folder, work) / "ablation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def measured_tables(order: AblationOrder, failures: Mapping[Recipe, str]) -> tuple[VariantTable, ...]:
    """The tables with what has been measured so far, and why a run failed.

    Args:
        order: the tables and seeds.
        failures: reasons, by recipe.
    """
    return tuple(
        VariantTable(table.title, tuple(_measured_row(order, row, failures) for row in table.rows), PUBLISHED_FOR)
        for table in order.tables
    )


def _measured_row(order: AblationOrder, row: AblationRow, failures: Mapping[Recipe, str]) -> VariantRow:
    image: dict[int, float] = {}
    pixel: dict[int, float] = {}
    seconds: dict[int, float] = {}
    notes: list[str] = []
    for seed in order.seeds:
        recipe = recipe_of_row(order, row, seed)
        result = read_result(order.folder, work_for(order, recipe))
        if result is None:
            notes += [f"seed {seed}: {failures[recipe]}"] if recipe in failures else []
            continue
        seconds[seed] = result["train_seconds"]
        notes += [f"seed {seed}: stage 1 ended with uniform targets"] if result.get("stage_1_collapsed") else []
        if result["image_auroc"] is not None:
            image[seed] = result["image_auroc"]
        if result["pixel_auroc"] is not None:
            pixel[seed] = result["pixel_auroc"]
    return VariantRow(row.name, image, pixel, seconds, row.published, "; ".join(notes))


def train_and_evaluate(order: AblationOrder, work: Work) -> None:
    """Train (or resume training) and evaluate one recipe; its result is written last.

    Raises:
        UserError: the training fails, for example because stage 1 collapses.
    """
    path = run_path(order.folder, work)
    resumed = _started_run(path)
    started = time.monotonic()
    if resumed is None or not resumed.is_finished:
        train_run(TrainingOrder(order.location, work.recipe, path, order.device), resumed)
    evaluate_and_record(order, work, time.monotonic() - started, resumed is not None)


def evaluate_and_record(order: AblationOrder, work: Work, train_seconds: float, is_resumed: bool) -> None:
    """Evaluate a trained run; its result is written last.

    Raises:
        UserError: the test data cannot be used.
    """
    path = run_path(order.folder, work)
    detector = AnomalyDetector.from_pretrained(path, order.device)
    data = check_test_data(open_test_data(order.location, work.recipe.data))
    evaluation = evaluate(detector, data)
    result = {
        "image_auroc": evaluation.image_auroc,
        "pixel_auroc": evaluation.pixel_auroc,
        **{name: value for name, value in asdict(evaluation).items() if name in MEASURES},
        "by_stratum": {
            stratum: {"image_auroc": block.image_auroc, "pixel_auroc": block.pixel_auroc}
            for stratum, block in evaluation.by_stratum.items()
        },
        "n_good": evaluation.n_good,
        "n_anomalous": evaluation.n_anomalous,
        "names": list(work.names),
        "seed": work.recipe.seed,
        "train_seconds": train_seconds,
        "resumed": is_resumed,
        "stage_1_collapsed": _stage_1_collapsed(RunFolder(path)),
        "seconds_per_image": evaluation.seconds_per_image,
    }
    atomic_write_text(path / "ablation.json", json.dumps(result, indent=2))


def _stage_1_collapsed(run: RunFolder) -> bool:
    """Whether the collapse watch reported it last; it does not stop objectives that run for comparison."""
    about = run.stage_output("pretrain").with_suffix(".json")
    return about.is_file() and bool(json.loads(about.read_text(encoding="utf-8"))["last"].get("collapsed"))


def _started_run(path: Path) -> RunFolder | None:
    """What a killed benchmark left of a run; a folder without a recipe is removed."""
    run = RunFolder(path)
    if run.recipe.is_file():
        return run
    if path.is_dir():
        for unfinished in path.glob(f".{run.recipe.name}.*.tmp"):
            unfinished.unlink()
        path.rmdir()  # refuses a folder with anything else in it
    return None


def _write_board(order: AblationOrder, command: str, failures: Mapping[Recipe, str]) -> Path:
    return write_variant_board(order.folder, measured_tables(order, failures), about_order(order, command))


def about_order(order: AblationOrder, command: str) -> dict[str, str]:
    """What a reader of a scoreboard needs to repeat it."""
    device = choose_compute(order.device).device
    machine = environment(device)
    base = "cpu" if order.base == str(CPU_BASE) else order.base  # as it is typed
    return {
        "command": command,
        "data": order.location,
        "base recipe": " ".join((base, *order.overrides)),
        "seeds": ", ".join(str(seed) for seed in order.seeds),
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['device_name'] or device}",
        "values": "AUROC in %, last step, mean ± standard error over seeds",
    }
