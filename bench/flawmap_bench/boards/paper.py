"""The paper's tables on the original data sets: measured here beside published, resumable.

Table 1: MVTec AD, each of 15 classes with its own model, and their mean. Table 2: chest X-rays by sex. Tables 3 and 4:
the ablations, each row on all classes. A class is trained and scored by :mod:`flawmap_bench.boards.ablations` in its
own folder, so that a killed benchmark resumes where it was and tables that share rows share their runs. The other
methods of tables 1 and 2 run on request, through :mod:`flawmap_bench.boards.peers`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flawmap.data.subset import split_location
from flawmap.engine.compute import DeviceName
from flawmap.engine.progress import say
from flawmap.reproducibility import atomic_write_text
from flawmap_bench.boards.ablation_tables import AblationRow, AblationTable, read_tables
from flawmap_bench.boards.ablations import AblationOrder, Rows, about_order, run_ablations
from flawmap_bench.boards.paper_board import (
    SEXES,
    ClassResults,
    ablations_board,
    class_board,
    results_of,
    table_board,
)
from flawmap_bench.boards.paper_methods import check_methods, run_methods
from flawmap_bench.boards.published import OURS
from flawmap_bench.boards.variants import VariantTable, write_variant_board
from flawmap_bench.protocols import MVTEC_AD, NIH, class_locations, class_overrides

Table = Literal[1, 2, 3, 4]
ABLATIONS: Mapping[int, tuple[str, ...]] = {3: ("objectives", "simulators"), 4: ("masking", "ratio")}
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
        limit_seconds: a class that would probably end later is not started; None for no limit.
        methods: other methods of table 1 or 2 to run as well, by the names of ``flawmap benchmark peers``.
        image_size_px: of these methods.
        minutes_per_method: of training, for each of them on each class.
    """

    table: Table
    root: str
    base: str | None
    overrides: tuple[str, ...]
    seeds: tuple[int, ...] | None
    folder: Path
    device: DeviceName = "auto"
    limit_seconds: float | None = None
    methods: tuple[str, ...] = ()
    image_size_px: int = 224
    minutes_per_method: float | None = 5.0

    @property
    def board_folder(self) -> Path:
        """Where the scoreboard goes."""
        return self.folder / f"table{self.table}"


def run_paper(order: PaperOrder, command: str, rows: Rows | None = None) -> Path:
    """Run what is missing and write the scoreboard after each class; ``rows`` is that of :func:`run_ablations`.

    Returns:
        the path of scoreboard.md; beside it, for table 1, per_class.md.

    Raises:
        UserError: a class is missing, a method is not in the table, or the recipe is not valid.
    """
    check_methods(order.table, order.methods)
    classes, others = planned_classes(order), dict[str, ClassResults]()
    order.board_folder.mkdir(parents=True, exist_ok=True)
    started, longest = time.monotonic(), 0.0
    for number, (name, class_order) in enumerate(classes.items()):
        elapsed = time.monotonic() - started
        if order.limit_seconds is not None and number and elapsed + longest > order.limit_seconds:
            say("paper", f"time limit: {len(classes) - number} of {len(classes)} remain for the next call")
            break
        say("paper", f"table {order.table}, {name or class_order.location} ({number + 1}/{len(classes)})")
        run_ablations(class_order, command, rows)
        if order.methods:
            size, minutes = order.image_size_px, order.minutes_per_method
            others[name] = run_methods(order.table, class_order, order.methods, size, minutes, command)
        longest = max(longest, time.monotonic() - started - elapsed)
        _write(order, classes, others, command)
    return _write(order, classes, others, command)


def planned_classes(order: PaperOrder) -> dict[str, AblationOrder]:
    """What is to run for each class, in the order of the columns.

    The lists of adults that PII and NSA publish are for one sex each: with ``list=`` in the location, each sex has its
    own model. Otherwise one model learns from all, and its images are scored by sex.

    Raises:
        UserError: a class is missing, or there is no such recipe.
    """
    tables = tables_to_run(order.table)
    base = order.base or ("paper_chest_xray" if order.table == 2 else "paper")
    n_seeds = NIH.n_seeds if order.table == 2 else MVTEC_AD.n_seeds
    return {
        name: AblationOrder(
            location=location,
            base=base,
            overrides=(*class_overrides(name), *order.overrides),
            tables=tables,
            seeds=order.seeds or tuple(range(n_seeds)),
            folder=order.folder / (name or "all"),
            device=order.device,
            limit_seconds=order.limit_seconds,
        )
        for name, location in _locations(order).items()
    }


def tables_to_run(table: Table) -> tuple[AblationTable, ...]:
    """The rows that flawmap can run: those of the paper's table, without those that we added."""
    if table in ABLATIONS:
        return tuple(
            AblationTable(shipped.key, shipped.title, tuple(row for row in shipped.rows if row.published.numbers()))
            for shipped in read_tables(ABLATIONS[table])
        )
    title = "Chest X-rays by sex (Table 2)" if table == 2 else "MVTec AD, mean of 15 classes (Table 1)"
    return (AblationTable(f"table{table}", title, (AblationRow(OURS),)),)


def _locations(order: PaperOrder) -> dict[str, str]:
    if order.table != 2:
        return class_locations(MVTEC_AD, order.root)
    _, options = split_location(order.root)
    if "list" in options and "sex" not in options:
        return {name: f"{order.root},sex={sex}" for sex, name in SEXES.items()}
    return {"": order.root}


def _write(
    order: PaperOrder, classes: Mapping[str, AblationOrder], others: Mapping[str, ClassResults], command: str
) -> Path:
    about = about_order(next(iter(classes.values())), command) | {"data": order.root}
    if order.methods:
        budget = "as long as they take" if order.minutes_per_method is None else f"{order.minutes_per_method:g} min"
        about |= {"other methods": f"{order.image_size_px} px, {budget} of training each on each class"}
    if order.table in ABLATIONS:
        return write_variant_board(order.board_folder, ablations_board(tables_to_run(order.table), classes), about)
    ours = AblationRow(OURS)
    results = {name: {OURS: results_of(item, ours), **others.get(name, {})} for name, item in classes.items()}
    n_seeds = len(next(iter(classes.values())).seeds)
    title = tables_to_run(order.table)[0].title
    table = VariantTable(title, table_board(order.table, results, n_seeds))
    if order.table == 1:
        atomic_write_text(order.board_folder / PER_CLASS, class_board(results))
    return write_variant_board(order.board_folder, (table,), about)
