"""The mean over boards of each method, over the boards that all of them have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flawmap_bench.boards.all_boards.measures import AUPRO_30, IMAGE_AUROC, PIXEL_AP, BoardRow
from flawmap_bench.boards.scoreboard import Measured
from flawmap_bench.methods import title_of

MEAN_MEASURES = (IMAGE_AUROC, PIXEL_AP, AUPRO_30)


@dataclass(frozen=True)
class MeanRow:
    """A method's means over the boards that all methods have.

    Attributes:
        title: of the method.
        values: by the measure's key, the mean in [0, 1] and the number of boards; None without a common board.
    """

    title: str
    values: Mapping[str, tuple[float, int] | None]


def mean_rows(rows: Sequence[BoardRow], everywhere: Sequence[str], on_xrays: Sequence[str]) -> list[MeanRow]:
    """Each board counts once, as the mean over its seeds.

    Args:
        rows: of all boards and methods.
        everywhere: methods that are run on every board.
        on_xrays: methods that are run on X-rays alone. The first of them takes the place of the first of the others on
            X-rays, in a row of its own, which comes first.
    """
    boards = list(dict.fromkeys(row.board for row in rows))
    choices = {title_of(method): dict.fromkeys(boards, method) for method in everywhere}
    if everywhere and on_xrays and any(board.is_xray for board in boards):
        both = {board: on_xrays[0] if board.is_xray else everywhere[0] for board in boards}
        choices = {f"{title_of(everywhere[0])}; on X-rays {title_of(on_xrays[0])}": both} | choices
    by_place = {(row.board, row.method): row for row in rows}
    means: list[dict[str, tuple[float, int] | None]] = [{} for _ in choices]
    for measure in MEAN_MEASURES:
        summaries = [
            {board: by_place[board, method].summary(measure) for board, method in choice.items()}
            for choice in choices.values()
        ]
        common = [board for board in boards if all(summary[board] is not None for summary in summaries)]
        for mean, summary in zip(means, summaries, strict=True):
            mean[measure.key] = _mean([summary[board] for board in common])
    return [MeanRow(title, values) for title, values in zip(choices, means, strict=True)]


def _mean(summaries: Sequence[Measured | None]) -> tuple[float, int] | None:
    means = [summary.mean for summary in summaries if summary is not None]
    return (sum(means) / len(means), len(means)) if means else None
