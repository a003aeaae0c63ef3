"""Rows of ablation tables as tasks of a Ray cluster; this process writes the files that it would write without one."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.engine.stage import share
from flawmap.errors import UserError
from flawmap.reproducibility import stable_hash
from flawmap.runs.json_files import read_json
from flawmap.runs.run_folder import RunFolder, create_run, set_latest
from flawmap.train import TrainingOrder, train_run
from flawmap_bench.boards.ablations import AblationOrder, Rows, Work, evaluate_and_record, run_path
from flawmap_bench.boards.archives import packed, put_in_place_of
from flawmap_bench.boards.data_content import content_of_location
from flawmap_cluster.grid import AsRun, run_grid
from flawmap_cluster.stages import SUFFIXES

STAGES = "stages"  # beside the runs: what they share


@dataclass(frozen=True)
class Row:
    """One training and evaluation, and the order that it belongs to."""

    order: AblationOrder
    work: Work


def in_cluster(address: str) -> Rows:
    """What runs rows in a Ray cluster, each as a task with one core.

    Args:
        address: as of :func:`flawmap_cluster.connect.connected`.
    """

    def rows(order: AblationOrder, missing: Sequence[Work]) -> Iterator[tuple[Work, str | None]]:
        if not missing:
            return
        by_key = {work.key: Row(replace(order, tables=()), work) for work in missing}
        for key, answer in run_grid(address, by_key, run_row, order.folder / "runs" / STAGES, stage_1_of):
            work = by_key[key].work
            if isinstance(answer, UserError):
                yield work, answer.problem
            else:
                put_in_folder(answer, run_path(order.folder, work))
                yield work, None

    return rows


def stage_1_of(row: Row) -> str:
    """Equal for rows that share stage 1; other rows have answers of their own."""
    work, recipe = row.work, row.work.recipe
    if recipe.method != "paper" or not recipe.pretrain.enabled:
        return work.key
    settings = {"data": recipe.data, "model": recipe.model, "pretrain": recipe.pretrain, "seed": recipe.seed}
    return stable_hash({"content": work.content, "device": work.device, "settings": repr(settings)})


def run_row(row: Row, folder: Path, as_run: AsRun) -> bytes:
    """Train and evaluate on a node, in an empty folder; gives the run without its stages, as an archive.

    Raises:
        UserError: the node has other data, or the training fails.
    """
    order, work = replace(row.order, folder=folder), row.work
    if content_of_location(order.location, work.recipe.data) != work.content:
        problem = "a node has other data here than the machine with the command"
        raise UserError(problem, order.location, "the same files must lie at the same path on all nodes")
    run = as_run(create_run(run_path(folder, work), "", work.recipe).path)
    started = time.monotonic()
    train_run(TrainingOrder(order.location, work.recipe, run.path, order.device), run)
    evaluate_and_record(order, work, time.monotonic() - started, is_resumed=False)
    return without_tensors_of_stages(run.path)


def without_tensors_of_stages(run: Path) -> bytes:
    """A run as an archive; what its stages have computed travels once for all runs."""
    return packed(run, lambda path: path.parent.name == "checkpoints" and path.suffix == SUFFIXES[0])


def put_in_folder(content: bytes, final: Path) -> None:
    """A run that :func:`without_tensors_of_stages` was given, with its stages from those beside it."""

    def add_stages(folder: Path) -> None:
        run = RunFolder(folder)
        for about in folder.glob("checkpoints/*.json"):
            key = read_json(about, dict, "run it again")["key"]
            share(run.shared_stage(about.stem, key), run.stage_output(about.stem))

    put_in_place_of(content, final, add_stages)
    set_latest(RunFolder(final))
