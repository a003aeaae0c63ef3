"""The paper's tables as boards: what has been measured so far, class by class, beside what is published."""

from collections.abc import Mapping, Sequence
from typing import Any

from flawmap_bench.ablation_rows import AblationRow, AblationTable
from flawmap_bench.ablations import AblationOrder, read_result, recipe_of_row, work_of
from flawmap_bench.paper_numbers import OURS, TABLE_1, TABLE_2
from flawmap_bench.scoreboard import BoardRow, BoardTable, class_table

NOT_RUN = "not run: name it with --methods"
SEXES = {"M": "male", "F": "female"}

Results = Mapping[int, Mapping[str, Any]]  # what was measured, by seed
ClassResults = Mapping[str, Results]  # of each method, by its printed name


def results_of(of_class: AblationOrder, row: AblationRow) -> dict[int, dict[str, Any]]:
    """What is done of a row on one class, by seed."""
    found = {
        seed: read_result(of_class.folder, work_of(of_class, recipe_of_row(of_class, row, seed)))
        for seed in of_class.seeds
    }
    return {seed: result for seed, result in found.items() if result is not None}


def ablations_board(tables: Sequence[AblationTable], classes: Mapping[str, AblationOrder]) -> tuple[BoardTable, ...]:
    """Tables 3 and 4: each row's mean over the classes."""
    n_seeds = len(next(iter(classes.values())).seeds)

    def mean_row(row: AblationRow) -> BoardRow:
        results = [results_of(of_class, row) for of_class in classes.values()]
        return _mean_row(row.name, results, n_seeds, row.published)

    return tuple(BoardTable(table.title, tuple(mean_row(row) for row in table.rows)) for table in tables)


def table_board(table: int, results: Mapping[str, ClassResults], n_seeds: int) -> tuple[BoardRow, ...]:
    """The rows of table 1 or 2; a method without results says that it was not run.

    Args:
        table: 1 or 2.
        results: of each class, by method as printed.
        n_seeds: how many are wanted.
    """
    return _rows_by_sex(results) if table == 2 else _rows_of_table_1(results, n_seeds)


def class_board(results: Mapping[str, ClassResults]) -> str:
    """Table 1 with all its columns as Markdown, AUROC in %: published lines, and those measured here."""
    texts = []
    measured_methods = dict.fromkeys(method for of_class in results.values() for method in of_class)
    for metric in ("image", "pixel"):
        lines: dict[str, list[float | None]] = {}
        for line in TABLE_1:
            if line.metric == metric:
                lines[f"{line.method}, *published*"] = [*(line.by_class or [None] * 15), line.mean]
        for method in measured_methods:
            measured: list[float | None] = []
            for of_class in results.values():
                values = [result[f"{metric}_auroc"] for result in of_class.get(method, {}).values()]
                found = [value for value in values if value is not None]
                measured.append(100 * sum(found) / len(found) if found else None)
            complete = [value for value in measured if value is not None]
            mean = sum(complete) / len(complete) if len(complete) == len(measured) else None
            lines[f"{method}, measured here"] = [*measured, mean]
        texts.append(class_table(f"{metric.capitalize()} AUROC in % (Table 1)", (*results, "mean"), lines))
    return "\n".join(texts)


def _mean_row(name: str, results: Sequence[Results], n_seeds: int, published: Mapping[str, float]) -> BoardRow:
    """The mean over classes for each seed with which all classes are done."""
    seeds = sorted(set.intersection(*(set(of_class) for of_class in results)))
    image, pixel = (_means(results, seeds, f"{metric}_auroc") for metric in ("image", "pixel"))
    seconds = {seed: sum(of_class[seed]["train_seconds"] for of_class in results) for seed in seeds}
    n_done, n_wanted = sum(len(of_class) for of_class in results), len(results) * n_seeds
    note = f"{n_done} of {n_wanted} runs done" if n_done < n_wanted else ""
    return BoardRow(name, image, pixel, seconds, published, note)


def _means(results: Sequence[Results], seeds: Sequence[int], metric: str) -> dict[int, float]:
    values = {seed: [of_class[seed][metric] for of_class in results] for seed in seeds}
    return {seed: sum(of_seed) / len(of_seed) for seed, of_seed in values.items() if None not in of_seed}


def _rows_of_table_1(results: Mapping[str, ClassResults], n_seeds: int) -> tuple[BoardRow, ...]:
    published: dict[str, dict[str, float]] = {}
    for line in TABLE_1:
        published.setdefault(line.method, {})[line.metric] = line.mean
    return tuple(
        _mean_row(method, [of_class.get(method, {}) for of_class in results.values()], n_seeds, means)
        if any(method in of_class for of_class in results.values())
        else BoardRow(method, published=means, note=NOT_RUN)
        for method, means in published.items()
    )


def _rows_by_sex(results: Mapping[str, ClassResults]) -> tuple[BoardRow, ...]:
    """Pixel AUROC over the boxed images of each sex, one row for each method and sex."""
    rows = []
    for line in TABLE_2:
        for sex, name in SEXES.items():
            of_sex = {
                seed: (result["groups"][f"sex={sex}"], result["train_seconds"])
                for of_class in results.values()
                for seed, result in of_class.get(line.method, {}).items()
                if f"sex={sex}" in result.get("groups", {})
            }
            image, pixel = (
                {seed: group[metric] for seed, (group, _) in of_sex.items() if group[metric] is not None}
                for metric in ("image_auroc", "pixel_auroc")
            )
            seconds = {seed: taken for seed, (_, taken) in of_sex.items()}
            note = f"published standard error {line.standard_error[sex]}"
            note += "" if of_sex or line.method == OURS else f"; {NOT_RUN}"
            rows.append(BoardRow(f"{line.method}, {name}", image, pixel, seconds, {"pixel": line.mean[sex]}, note))
    return tuple(rows)
