"""The paper's tables on the data sets themselves: measured here beside published, resumable.

Table 1: MVTec AD, each of 15 classes with a model of its own, and their mean. Table 2: chest X-rays by sex. Tables 3
and 4: the ablations, each row on all classes. A class is trained and scored by :mod:`flawmap.benchmark.ablations`, in
a folder of its own, so that a killed benchmark goes on where it was and tables that share rows share their runs.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flawmap.benchmark.ablation_rows import AblationRow, AblationTable, read_tables
from flawmap.benchmark.ablations import AblationOrder, Work, about_order, read_result, recipe_of_row, run_ablations
from flawmap.benchmark.paper_numbers import OURS, TABLE_1, TABLE_2
from flawmap.benchmark.scoreboard import BoardRow, BoardTable, class_table, write_scoreboard
from flawmap.data.protocols import MVTEC_AD, NIH, class_locations
from flawmap.data.subset import split_location
from flawmap.reproducibility import atomic_write_text
from flawmap.training.device import DeviceName
from flawmap.training.progress import say

Table = Literal[1, 2, 3, 4]
ABLATIONS: Mapping[int, tuple[str, ...]] = {3: ("objectives", "simulators"), 4: ("masking", "ratio")}
NOT_THERE = "this method is not in flawmap yet"
SEXES = {"M": "male", "F": "female"}
PER_CLASS = "per_class.md"


@dataclass(frozen=True)
class PaperOrder:
    """Which table, on what, and where results go.

    Attributes:
        table: its number in the paper.
        root: of MVTec AD (tables 1, 3 and 4): the folder with the 15 classes; of the chest X-rays (table 2): any
            location with sex and boxes.
        base: the recipe, a preset or a YAML file; None: the paper's.
        overrides: changes of it for all rows.
        seeds: None: as many as the paper's table has.
        folder: runs by class, which tables share, and a folder for each table's scoreboard.
        device: to compute on.
        limit_seconds: no class is begun that would probably end later; None for no limit.
    """

    table: Table
    root: str
    base: str | None
    overrides: tuple[str, ...]
    seeds: tuple[int, ...] | None
    folder: Path
    device: DeviceName = "auto"
    limit_seconds: float | None = None

    @property
    def board_folder(self) -> Path:
        """Where the scoreboard goes."""
        return self.folder / f"table{self.table}"


def run_paper(order: PaperOrder, command: str) -> Path:
    """Run what is missing and write the scoreboard after each class.

    Returns:
        the path of scoreboard.md; beside it, for table 1, per_class.md.

    Raises:
        UserError: a class is missing, or the recipe does not hold.
    """
    classes = planned_classes(order)
    order.board_folder.mkdir(parents=True, exist_ok=True)
    started, longest = time.monotonic(), 0.0
    for number, (name, of_class) in enumerate(classes.items()):
        elapsed = time.monotonic() - started
        if order.limit_seconds is not None and number and elapsed + longest > order.limit_seconds:
            say("paper", f"time limit: {len(classes) - number} of {len(classes)} are left for the next call")
            break
        say("paper", f"table {order.table}, {name or of_class.location} ({number + 1}/{len(classes)})")
        run_ablations(of_class, command)
        longest = max(longest, time.monotonic() - started - elapsed)
        _write(order, classes, command)
    return _write(order, classes, command)


def planned_classes(order: PaperOrder) -> dict[str, AblationOrder]:
    """What is to run for each class, in the order of the columns.

    The lists of adults that PII and NSA publish are for one sex each: with ``list=`` in the location, each sex has a
    model of its own. Otherwise one model learns from all, and its images are scored by sex.

    Raises:
        UserError: a class is missing, or there is no such recipe.
    """
    limit, tables = order.limit_seconds, tables_to_run(order.table)
    base = order.base or ("paper_chest_xray" if order.table == 2 else "paper")
    n_seeds = NIH.n_seeds if order.table == 2 else MVTEC_AD.n_seeds
    seeds = order.seeds or tuple(range(n_seeds))
    return {
        name: AblationOrder(
            location, base, order.overrides, tables, seeds, order.folder / (name or "all"), order.device, limit
        )
        for name, location in _locations(order).items()
    }


def tables_to_run(table: Table) -> tuple[AblationTable, ...]:
    """The rows that flawmap can run: those of the paper's table, without further ones of our own."""
    if table in ABLATIONS:
        return tuple(
            AblationTable(found.key, found.title, tuple(row for row in found.rows if row.published))
            for found in read_tables(ABLATIONS[table])
        )
    title = "Chest X-rays by sex (Table 2)" if table == 2 else "MVTec AD, mean of 15 classes (Table 1)"
    return (AblationTable(f"table{table}", title, (AblationRow(OURS),)),)


def paper_board(order: PaperOrder, classes: Mapping[str, AblationOrder]) -> tuple[BoardTable, ...]:
    """The table with what has been measured so far, beside what is published."""
    tables = tables_to_run(order.table)
    if order.table == 2:
        return (BoardTable(tables[0].title, tuple(_rows_by_sex(classes))),)
    if order.table == 1:
        return (BoardTable(tables[0].title, tuple(_rows_of_table_1(classes))),)
    return tuple(
        BoardTable(table.title, tuple(_mean_row(row.name, row, classes, row.published) for row in table.rows))
        for table in tables
    )


def class_board(classes: Mapping[str, AblationOrder]) -> str:
    """Table 1 with all its columns as Markdown, AUROC in %: published lines, and ours as measured here."""
    texts = []
    for metric in ("image", "pixel"):
        lines: dict[str, list[float | None]] = {}
        for line in TABLE_1:
            if line.metric == metric:
                lines[f"{line.method}, *published*"] = [*(line.by_class or [None] * 15), line.mean]
        measured: list[float | None] = []
        for of_class in classes.values():
            values = [r[f"{metric}_auroc"] for r in _results(of_class, AblationRow(OURS)).values()]
            found = [value for value in values if value is not None]
            measured.append(100 * sum(found) / len(found) if found else None)
        complete = [value for value in measured if value is not None]
        mean = sum(complete) / len(complete) if len(complete) == len(measured) else None
        lines[f"{OURS}, measured here"] = [*measured, mean]
        texts.append(class_table(f"{metric.capitalize()} AUROC in % (Table 1)", (*classes, "mean"), lines))
    return "\n".join(texts)


def _locations(order: PaperOrder) -> dict[str, str]:
    if order.table != 2:
        return class_locations(MVTEC_AD, order.root)
    _, only = split_location(order.root)
    if "list" in only and "sex" not in only:
        return {name: f"{order.root},sex={sex}" for sex, name in SEXES.items()}
    return {"": order.root}


def _results(of_class: AblationOrder, row: AblationRow) -> dict[int, dict[str, Any]]:
    """What is done of a row on one class, by seed."""
    found = {
        seed: read_result(of_class.folder, Work(recipe_of_row(of_class, row, seed), ())) for seed in of_class.seeds
    }
    return {seed: result for seed, result in found.items() if result is not None}


def _mean_row(
    name: str, row: AblationRow, classes: Mapping[str, AblationOrder], published: Mapping[str, float]
) -> BoardRow:
    """The mean over classes for each seed with which all classes are done."""
    results = [_results(of_class, row) for of_class in classes.values()]
    seeds = sorted(set.intersection(*(set(of_class) for of_class in results)))
    image = _means(results, seeds, "image_auroc")
    pixel = _means(results, seeds, "pixel_auroc")
    seconds = {seed: sum(of_class[seed]["train_seconds"] for of_class in results) for seed in seeds}
    n_done = sum(len(of_class) for of_class in results)
    n_wanted = sum(len(of_class.seeds) for of_class in classes.values())
    note = f"{n_done} of {n_wanted} runs done" if n_done < n_wanted else ""
    return BoardRow(name, image, pixel, seconds, published, note)


def _means(results: list[dict[int, dict[str, Any]]], seeds: list[int], metric: str) -> dict[int, float]:
    values = {seed: [of_class[seed][metric] for of_class in results] for seed in seeds}
    return {seed: sum(of_seed) / len(of_seed) for seed, of_seed in values.items() if None not in of_seed}


def _rows_of_table_1(classes: Mapping[str, AblationOrder]) -> list[BoardRow]:
    published: dict[str, dict[str, float]] = {}
    for line in TABLE_1:
        published.setdefault(line.method, {})[line.metric] = line.mean
    return [
        _mean_row(method, AblationRow(OURS), classes, means)
        if method == OURS
        else BoardRow(method, published=means, note=NOT_THERE)
        for method, means in published.items()
    ]


def _rows_by_sex(classes: Mapping[str, AblationOrder]) -> list[BoardRow]:
    """Pixel AUROC over the boxed images of each sex, one row for each."""
    rows = []
    for line in TABLE_2:
        for sex, name in SEXES.items():
            image: dict[int, float] = {}
            pixel: dict[int, float] = {}
            seconds: dict[int, float] = {}
            for of_class in classes.values() if line.method == OURS else ():
                for seed, result in _results(of_class, AblationRow(OURS)).items():
                    group = result.get("groups", {}).get(f"sex={sex}")
                    if group is None:
                        continue
                    seconds[seed] = result["train_seconds"]
                    image |= {seed: group["image_auroc"]} if group["image_auroc"] is not None else {}
                    pixel |= {seed: group["pixel_auroc"]} if group["pixel_auroc"] is not None else {}
            note = f"published standard error {line.standard_error[sex]}"
            note = note if line.method == OURS else f"{note}; {NOT_THERE}"
            rows.append(BoardRow(f"{line.method}, {name}", image, pixel, seconds, {"pixel": line.mean[sex]}, note))
    return rows


def _write(order: PaperOrder, classes: Mapping[str, AblationOrder], command: str) -> Path:
    about = about_order(next(iter(classes.values())), command) | {"data": order.root}
    if order.table == 1:
        atomic_write_text(order.board_folder / PER_CLASS, class_board(classes))
    return write_scoreboard(order.board_folder, paper_board(order, classes), about)
