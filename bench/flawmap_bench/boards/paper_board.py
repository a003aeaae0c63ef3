"""The paper's tables as boards: what has been measured so far, class by class, beside what is published."""

from collections.abc import Mapping, Sequence
from typing import Any

from flawmap_bench.boards.ablation_tables import AblationRow, AblationTable
from flawmap_bench.boards.ablations import AblationOrder, read_result, recipe_of_row, work_for
from flawmap_bench.boards.published import MEAN, OURS, TABLE_1, TABLE_2, Published
from flawmap_bench.boards.scoreboard import BoardLine, BoardTable, number_or_dash, table_lines
from flawmap_bench.boards.variants import VariantRow, VariantTable

NOT_RUN = "not run; add it with --methods"
SEXES = {"M": "male", "F": "female"}

Results = Mapping[int, Mapping[str, Any]]  # what was measured, by seed
ClassResults = Mapping[str, Results]  # of each method, by its printed name


def results_of(order: AblationOrder, row: AblationRow) -> dict[int, dict[str, Any]]:
    """The finished results of a row on one class, by seed."""
    results = {
        seed: read_result(order.folder, work_for(order, recipe_of_row(order, row, seed))) for seed in order.seeds
    }
    return {seed: result for seed, result in results.items() if result is not None}


def ablations_board(tables: Sequence[AblationTable], classes: Mapping[str, AblationOrder]) -> tuple[VariantTable, ...]:
    """Tables 3 and 4: each row's mean over the classes."""
    n_seeds = len(next(iter(classes.values())).seeds)

    def mean_row(row: AblationRow) -> VariantRow:
        results = [results_of(order, row) for order in classes.values()]
        return _mean_row(row.name, results, n_seeds, row.published)

    return tuple(VariantTable(table.title, tuple(mean_row(row) for row in table.rows)) for table in tables)


def table_board(table: int, results: Mapping[str, ClassResults], n_seeds: int) -> tuple[VariantRow, ...]:
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
    methods = dict.fromkeys(method for class_results in results.values() for method in class_results)
    for metric in ("image", "pixel"):
        published = {
            f"{method}, *published*": [getattr(number, metric) for number in by_class.values()]
            for method, by_class in TABLE_1.items()
            if getattr(by_class[MEAN], metric) is not None
        }
        measured = {f"{method}, measured here": _class_values(results, method, metric) for method in methods}
        lines = (
            BoardLine((name, *(number_or_dash(value) for value in values)))
            for name, values in (published | measured).items()
        )
        table = BoardTable(f"{metric.capitalize()} AUROC in % (Table 1)", ("method", *results, MEAN), tuple(lines))
        texts.append("\n".join([f"## {table.title}", "", *table_lines(table)]) + "\n")
    return "\n".join(texts)


def _class_values(results: Mapping[str, ClassResults], method: str, metric: str) -> list[float | None]:
    """The mean over seeds in % for each class, then the mean over classes where all are there."""
    values: list[float | None] = []
    for class_results in results.values():
        measured = [result[f"{metric}_auroc"] for result in class_results.get(method, {}).values()]
        numbers = [value for value in measured if value is not None]
        values.append(100 * sum(numbers) / len(numbers) if numbers else None)
    complete = [value for value in values if value is not None]
    return [*values, sum(complete) / len(complete) if len(complete) == len(values) else None]


def _mean_row(name: str, results: Sequence[Results], n_seeds: int, published: Published) -> VariantRow:
    """The mean over classes for each seed with which all classes are done."""
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in results)))
    image, pixel = (_means(results, seeds, f"{metric}_auroc") for metric in ("image", "pixel"))
    seconds = {seed: sum(by_seed[seed]["train_seconds"] for by_seed in results) for seed in seeds}
    n_done, n_wanted = sum(len(by_seed) for by_seed in results), len(results) * n_seeds
    note = f"{n_done} of {n_wanted} runs done" if n_done < n_wanted else ""
    return VariantRow(name, image, pixel, seconds, published, note)


def _means(results: Sequence[Results], seeds: Sequence[int], metric: str) -> dict[int, float]:
    values = {seed: [by_seed[seed][metric] for by_seed in results] for seed in seeds}
    return {seed: sum(numbers) / len(numbers) for seed, numbers in values.items() if None not in numbers}


def _rows_of_table_1(results: Mapping[str, ClassResults], n_seeds: int) -> tuple[VariantRow, ...]:
    rows = []
    for method, by_class in TABLE_1.items():
        published = by_class[MEAN]
        if any(method in class_results for class_results in results.values()):
            measured = [class_results.get(method, {}) for class_results in results.values()]
            rows.append(_mean_row(method, measured, n_seeds, published))
        else:
            rows.append(VariantRow(method, published=published, note=NOT_RUN))
    return tuple(rows)


def _rows_by_sex(results: Mapping[str, ClassResults]) -> tuple[VariantRow, ...]:
    """Pixel AUROC over the boxed images of each sex, one row for each method and sex."""
    rows = []
    for method, by_sex in TABLE_2.items():
        for sex, name in SEXES.items():
            measured = {
                seed: (result["by_stratum"][f"sex={sex}"], result["train_seconds"])
                for class_results in results.values()
                for seed, result in class_results.get(method, {}).items()
                if f"sex={sex}" in result.get("by_stratum", {})
            }
            image, pixel = (
                {seed: stratum[metric] for seed, (stratum, _) in measured.items() if stratum[metric] is not None}
                for metric in ("image_auroc", "pixel_auroc")
            )
            seconds = {seed: taken for seed, (_, taken) in measured.items()}
            note = f"published standard error {by_sex[sex].pixel_standard_error}"
            note += "" if measured or method == OURS else f"; {NOT_RUN}"
            rows.append(VariantRow(f"{method}, {name}", image, pixel, seconds, by_sex[sex], note))
    return tuple(rows)
