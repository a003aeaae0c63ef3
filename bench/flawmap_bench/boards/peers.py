"""Runs a board of methods on one data set: each method and seed in its own process, finished ones never again."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawmap.data.checks import check_leak, check_test_data, check_training_data
from flawmap.data.open_data import find_all_test_data, open_test_data, open_training_data
from flawmap.data.sample import TestData, TrainingData
from flawmap.detect.fit import ALGORITHM_VERSION
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.progress import duration, say
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.reproducibility import atomic_write_text, environment, stable_hash
from flawmap.runs.result_folders import exclusive
from flawmap_bench.boards.data_content import data_content
from flawmap_bench.boards.method_job import DONE, FAILED, FITTED, SCORED, MethodJob, write_job
from flawmap_bench.boards.method_scores import scored_metrics
from flawmap_bench.boards.peers_scoreboard import MethodRow, write_peers_scoreboard
from flawmap_bench.methods import METHODS_VERSION, check_method_names, is_recipe, split_overrides, title_of

RESULT = "result.json"
LOG = "log.txt"
LIMIT_IN_BUDGETS = 3.0  # room for planning and one pass over all images, which methods cannot shorten
START_SECONDS = 120.0  # loading of packages and weights
POLL_SECONDS = 1.0

Jobs = Mapping[tuple[str, int], MethodJob]  # by method and seed


@dataclass(frozen=True)
class PeersOrder:
    """What to compare, on what, within which budget.

    Attributes:
        location: a data location with labelled test images.
        methods: by name, see :mod:`flawmap_bench.methods`.
        seeds: each method runs with each of them.
        folder: jobs, results and the scoreboard.
        image_size_px: of all methods but flawmap's recipes, which have their own.
        minutes_per_method: of training.
        overrides: ``--set`` changes; those of ``data`` hold for all methods, others for recipes.
        device: to compute on.
        max_steps: for tests.
        with_thresholds: whether flawmap's recipes train in full, as ``flawmap train`` does with all good images; the
            budget is then that of the other methods, and no recipe is planned.
    """

    location: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path
    image_size_px: int = 224
    minutes_per_method: float | None = 5.0
    overrides: tuple[str, ...] = ()
    device: DeviceName = "auto"
    max_steps: int | None = None
    with_thresholds: bool = False


Which = tuple[str, int]  # a method and a seed
Outcomes = Iterator[tuple[Which, str | None]]
Methods = Callable[[PeersOrder, Jobs, Sequence[Which], TestData], Outcomes]


def run_peers(order: PeersOrder, command: str, methods: Methods | None = None) -> Path:
    """Run what is missing and write the scoreboard after each run.

    Args:
        order: what to run.
        command: for the record.
        methods: runs what is missing, in any order, and gives each when it is done, with the reason where it failed;
            None does so here, one after the other.

    Returns:
        the path of scoreboard.md.

    Raises:
        UserError: unknown methods, or unusable data. A method that fails does not stop the others.
    """
    jobs, test = planned_jobs(order)
    missing = [which for which, job in jobs.items() if read_result(order.folder, job) is None]
    say("peers", f"{len(jobs)} runs, {len(jobs) - len(missing)} done, {len(missing)} to do -> {order.folder}/")
    order.folder.mkdir(parents=True, exist_ok=True)
    failures: dict[Which, str] = {}
    for which, reason in (methods or one_by_one)(order, jobs, missing, test):
        if reason is not None:
            say("peers", f"{title_of(which[0])}: {reason}")
            failures[which] = reason
        _write_board(order, command, jobs, failures, test)
    return _write_board(order, command, jobs, failures, test)


def one_by_one(order: PeersOrder, jobs: Jobs, missing: Sequence[Which], test: TestData) -> Outcomes:
    """Run on this machine; see :func:`run_peers`."""
    for number, (name, seed) in enumerate(missing):
        say("peers", f"run {number + 1}/{len(missing)}: {title_of(name)}, seed {seed}")
        started = time.monotonic()
        reason = run_method(order.folder, jobs[name, seed], test)
        if reason is None:
            say("peers", f"{title_of(name)} took {duration(time.monotonic() - started)}")
        yield (name, seed), reason


def planned_jobs(order: PeersOrder) -> tuple[Jobs, TestData]:
    """What is to run, seed by seed, and the test images.

    Raises:
        UserError: unknown methods, or unusable data.
    """
    check_method_names(order.methods)
    good, test = _checked_data(order)
    content = data_content(good, test)
    jobs = {
        (name, seed): _job(order, name, seed, good, test, content) for seed in order.seeds for name in order.methods
    }
    return jobs, test


def read_result(folder: Path, job: MethodJob) -> dict[str, Any] | None:
    """What a finished run measured; None where it is not finished."""
    path = job_folder(folder, job) / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def job_folder(folder: Path, job: MethodJob) -> Path:
    """Named after method and seed, and a hash of all that determines the result."""
    short = job.method.replace("/", "-").replace(":", "-")
    return folder / "runs" / f"{short}-s{job.seed}-{stable_hash(job)[:8]}"


def _checked_data(order: PeersOrder) -> tuple[TrainingData, TestData]:
    """Training and test images, each readable, none of them on both sides."""
    settings = load_recipe("standard", order.overrides).data
    if settings.pretrain_on is not None:
        problem = "on a board all methods learn from the same images; data.pretrain_on gives a recipe more"
        raise UserError(problem, "--set data.pretrain_on", "leave it out")
    checked = check_training_data(open_training_data(order.location, settings), no_threshold=None)
    check_leak(checked, find_all_test_data(order.location, settings))
    return checked.data, check_test_data(open_test_data(order.location, settings))


def _job(order: PeersOrder, name: str, seed: int, good: TrainingData, test: TestData, content: str) -> MethodJob:
    method, own_overrides = split_overrides(name)
    overrides, is_ours = (*order.overrides, *own_overrides), is_recipe(name)
    recipe = to_yaml(load_recipe(method, overrides)) if is_ours else ""
    version = ALGORITHM_VERSION if is_ours else METHODS_VERSION
    minutes = None if is_ours and order.with_thresholds else order.minutes_per_method
    return MethodJob(
        method=method,
        seed=seed,
        image_size_px=order.image_size_px,
        budget_seconds=None if minutes is None else 60 * minutes,
        max_steps=order.max_steps,
        overrides=overrides,
        device=order.device,
        good=tuple((image.key, str(image.path.resolve()), image.group) for image in good.images),
        to_score=tuple(str(sample.path.resolve()) for sample in test.samples),
        content=stable_hash({"data": content, "recipe": recipe, "version": version}),
        with_threshold=is_ours and order.with_thresholds,
    )


def run_method(board: Path, job: MethodJob, test: TestData) -> str | None:
    """One run from the start; its result is written last. Returns why it failed, if it did."""
    folder = job_folder(board, job)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        return _run_alone(folder, job, test)


def _run_alone(folder: Path, job: MethodJob, test: TestData) -> str | None:
    if not (folder / DONE).is_file():  # a killed training starts again: all of it has to be within the budget
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        write_job(folder, job)
        code = run_in_own_process(folder, training_limit_seconds(job))
        if not (folder / DONE).is_file():
            return failure_reason(folder, code)
    result = json.loads((folder / DONE).read_text(encoding="utf-8"))
    try:
        result |= scored_metrics(test, folder / SCORED, result.get("map_threshold"))
    except UserError as error:
        return error.problem
    result |= {"method": job.method, "seed": job.seed, "budget_seconds": job.budget_seconds}
    atomic_write_text(folder / RESULT, json.dumps(result, indent=2))
    shutil.rmtree(folder / SCORED)  # hundreds of megabytes of maps
    return None


def training_limit_seconds(job: MethodJob) -> float | None:
    """When a process is stopped if it has not finished its training; None where there is no budget."""
    return None if job.budget_seconds is None else START_SECONDS + LIMIT_IN_BUDGETS * job.budget_seconds


def run_in_own_process(folder: Path, limit_seconds: float | None) -> int:
    """Run the job; anomalib changes timm for its whole process, and peak memory is that of a process."""
    command = [sys.executable, "-m", "flawmap_bench.boards.method_job", str(folder)]
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            return wait_for(process, folder, limit_seconds)  # the process ends when its standard input is closed
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def wait_for(process: subprocess.Popen[bytes], folder: Path, limit_seconds: float | None) -> int:
    """The process's exit code; -1 if its training took too long, which is then written as its failure."""
    end = None if limit_seconds is None else time.monotonic() + limit_seconds
    while True:
        try:
            return process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if end is not None and time.monotonic() > end and not (folder / FITTED).is_file():
                reason = f"stopped, its training was not over after {duration(limit_seconds or 0.0)}"
                atomic_write_text(folder / FAILED, json.dumps({"reason": reason}))
                return -1


def failure_reason(folder: Path, code: int) -> str:
    """Why a process did not finish: what it wrote, or its exit code and where its log is."""
    if (folder / FAILED).is_file():
        return str(json.loads((folder / FAILED).read_text(encoding="utf-8"))["reason"])
    return f"its process ended with {code}; see {folder / LOG}"


def _write_board(
    order: PeersOrder, command: str, jobs: Jobs, failures: Mapping[tuple[str, int], str], test: TestData
) -> Path:
    rows = []
    for name in order.methods:
        by_seed = {seed: read_result(order.folder, jobs[name, seed]) for seed in order.seeds}
        results = {seed: result for seed, result in by_seed.items() if result is not None}
        reasons = tuple(f"seed {seed}: {failures[name, seed]}" for seed in order.seeds if (name, seed) in failures)
        rows.append(MethodRow(name, title_of(name), results, reasons))
    job = next(iter(jobs.values()))
    device = choose_compute(order.device).device
    machine, threads = environment(device), _threads(rows)
    budget = "none"
    if (limit := training_limit_seconds(job)) is not None:
        budget = f"{order.minutes_per_method:g} min per method and seed; stopped if not over after {duration(limit)}"
    n_good = sum(not sample.is_anomalous for sample in test.samples)
    about = {
        "command": command,
        "data": f"{order.location}: {len(job.good)} good images to train; "
        f"{n_good} good, {len(test.samples) - n_good} anomalous to test",
        "image size": f"{order.image_size_px} px, resized whole; flawmap's recipes have their own sizes",
        "training budget": budget,
        "seeds": ", ".join(str(seed) for seed in order.seeds),
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['device_name'] or device}, {threads}",
        "values": "AUROC and AUPRO in %, at the images' own resolution, end of training; mean ± standard error over "
        "seeds, or the 95 % bootstrap interval over images where there is one seed",
    }
    return write_peers_scoreboard(order.folder, test.protocol.name, rows, about)


def _threads(rows: Sequence[MethodRow]) -> str:
    """How many threads the methods computed with."""
    counts = sorted({int(result["threads"]) for row in rows for result in row.results.values()})
    return f"threads of each method: {' or '.join(map(str, counts)) or 'none ran'}"
