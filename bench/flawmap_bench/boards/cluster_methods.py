"""Methods of a board as tasks of a Ray cluster; this process writes the files that it would write without one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.data.sample import TestData
from flawmap.errors import UserError
from flawmap_bench.boards.archives import packed, put_in_place_of
from flawmap_bench.boards.method_job import MethodJob
from flawmap_bench.boards.peers import (
    Jobs,
    Methods,
    Outcomes,
    PeersOrder,
    Which,
    job_folder,
    planned_jobs,
    run_method,
)
from flawmap_cluster.grid import AsRun, run_grid


@dataclass(frozen=True)
class MethodRow:
    """One method with one seed, and the order that it belongs to."""

    order: PeersOrder
    job: MethodJob


def in_cluster(address: str) -> Methods:
    """What runs methods in a Ray cluster, each with each seed as a task with one core.

    Args:
        address: as of :func:`flawmap_cluster.connect.connected`.
    """

    def outcomes(order: PeersOrder, jobs: Jobs, missing: Sequence[Which], test: TestData) -> Outcomes:
        if not missing:
            return
        which_of = {job_folder(order.folder, jobs[which]).name: which for which in missing}
        rows = {
            name: MethodRow(replace(order, methods=(method,), seeds=(seed,)), jobs[method, seed])
            for name, (method, seed) in which_of.items()
        }
        for name, answer in run_grid(address, rows, run_row, order.folder / "runs" / "stages"):
            if isinstance(answer, UserError):
                yield which_of[name], answer.problem
                continue
            reason, content = answer
            put_in_place_of(content, order.folder / "runs" / name)
            yield which_of[name], reason

    return outcomes


def run_row(row: MethodRow, folder: Path, as_run: AsRun) -> tuple[str | None, bytes]:
    """Fit and score on a node; gives why it failed, if it did, and the job's folder as an archive.

    Raises:
        UserError: the node has other data, or none.
    """
    jobs, test = planned_jobs(row.order)
    if list(jobs.values()) != [row.job]:
        problem = "a node has other data here than the machine with the command"
        raise UserError(problem, row.order.location, "the same files must lie at the same path on all nodes")
    reason = run_method(folder, row.job, test)
    if reason is not None:
        reason = reason.replace(str(folder), str(row.order.folder))  # where its log is in the end
    return reason, packed(job_folder(folder, row.job))
