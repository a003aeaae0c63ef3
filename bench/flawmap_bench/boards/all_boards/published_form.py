"""The form in which a benchmark is published: a row per category, the mean last, published numbers beside."""

from collections.abc import Sequence

from flawmap_bench.boards.all_boards.measures import MEASURES, BoardRow, in_percent
from flawmap_bench.boards.published import BY_CATEGORY, MEAN, Published
from flawmap_bench.boards.scoreboard import PUBLISHED_MARK, BoardLine, BoardTable, measured, number_or_dash
from flawmap_bench.protocols import TableProtocol

LEVELS = ("image", "pixel")


def published_tables(rows: Sequence[BoardRow]) -> list[BoardTable]:
    """One table for each benchmark and method with a category among the boards."""
    tables: dict[tuple[str, str], list[BoardRow]] = {}
    for row in rows:
        if row.board.benchmark is not None:
            tables.setdefault((row.board.benchmark.name, row.method), []).append(row)
    return [_table(chosen) for chosen in tables.values()]


def published_sources(rows: Sequence[BoardRow]) -> list[str]:
    """Where the published numbers were read."""
    benchmarks = dict.fromkeys(row.board.benchmark.name for row in rows if row.board.benchmark is not None)
    caution = "Published numbers are of the whole official test sets; only those of the original archives compare"
    sources = [
        f"Published, {benchmark}, {method}: {next(iter(by_category.values())).source}"
        for benchmark in benchmarks
        for method, by_category in BY_CATEGORY[benchmark].items()
    ]
    return [caution, *sources] if sources else []


def _table(rows: Sequence[BoardRow]) -> BoardTable:
    benchmark = rows[0].board.benchmark
    assert benchmark is not None
    rows = sorted(rows, key=lambda row: benchmark.classes.index(_category(row)))
    published = BY_CATEGORY[benchmark.name]
    columns = ("category", *(measure.title for measure in MEASURES))
    columns += tuple(f"{method}, {level} AUROC, {PUBLISHED_MARK}" for method in published for level in LEVELS)
    lines = []
    for row in rows:
        numbers = [by_category.get(_category(row)) for by_category in published.values()]
        lines.append(BoardLine((row.board.name, *(in_percent(row.summary(one)) for one in MEASURES), *_cells(numbers))))
    return BoardTable(f"{benchmark.name}: {rows[0].title}", columns, (*lines, _mean_line(rows, benchmark)))


def _mean_line(rows: Sequence[BoardRow], benchmark: TableProtocol) -> BoardLine:
    """The mean over the measured categories; of the published numbers over the same ones."""
    is_whole = {_category(row) for row in rows} == set(benchmark.classes)
    name = MEAN if is_whole else f"mean of {len(rows)} of {len(benchmark.classes)} categories"
    cells = []
    for measure in MEASURES:
        summaries = [row.summary(measure) for row in rows]
        means = [summary.mean for summary in summaries if summary is not None]
        cells.append(in_percent(measured([sum(means) / len(means)])) if len(means) == len(rows) else "–")
    numbers = [
        by_category.get(MEAN) if is_whole else _mean_published([by_category.get(_category(row)) for row in rows])
        for by_category in BY_CATEGORY[benchmark.name].values()
    ]
    return BoardLine((name, *cells, *_cells(numbers)))


def _category(row: BoardRow) -> str:
    """A board's own name may begin with the folder above."""
    return row.board.name.rpartition("/")[2]


def _mean_published(numbers: Sequence[Published | None]) -> Published:
    """None where a category has no number."""
    means = {}
    for level in LEVELS:
        values = [value for number in numbers if (value := getattr(number, level, None)) is not None]
        means[level] = sum(values) / len(values) if len(values) == len(numbers) else None
    return Published(means["image"], means["pixel"])


def _cells(numbers: Sequence[Published | None]) -> list[str]:
    return [number_or_dash(getattr(number, level, None)) for number in numbers for level in LEVELS]
