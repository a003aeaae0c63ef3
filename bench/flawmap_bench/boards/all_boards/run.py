"""Runs methods on all boards, one process at a time and never twice, and writes the table after each run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flawmap.advice import install
from flawmap.data.sample import TestData
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.reproducibility import environment
from flawmap_bench.boards.all_boards.find import FoundBoard, find_boards
from flawmap_bench.boards.all_boards.measures import BoardRow
from flawmap_bench.boards.all_boards.table import JudgedRow, judged, write_table
from flawmap_bench.boards.peers import Jobs, PeersOrder, planned_jobs, read_result, run_method
from flawmap_bench.methods import check_method_names, missing_package, split_overrides, title_of

DEFAULT_METHODS = ("standard", "chest_xray")
FOR_XRAYS = ("chest_xray",)  # recipes that know something of X-rays, and run on nothing else


@dataclass(frozen=True)
class BoardsOrder:
    """What to run on which boards.

    Attributes:
        root: the folder below which the boards lie.
        folder: the table, and a folder for each board.
        boards: by name; None for all that are found.
        methods: by name, see :mod:`flawmap_bench.methods`.
        seeds: each method runs with each of them.
        image_size_px: of all methods but flawmap's recipes.
        minutes_per_method: of training, for all methods but flawmap's recipes, which train in full.
        overrides: ``--set`` changes; those of ``data`` hold for all methods, others for recipes.
        device: to compute on.
        max_steps: for tests.
    """

    root: Path
    folder: Path
    boards: tuple[str, ...] | None = None
    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    image_size_px: int = 224
    minutes_per_method: float | None = 10.0
    overrides: tuple[str, ...] = ()
    device: DeviceName = "auto"
    max_steps: int | None = None


@dataclass
class PlannedBoard:
    """A board with its runs, and why some of them failed in this call."""

    board: FoundBoard
    methods: tuple[str, ...]
    folder: Path
    jobs: Jobs
    test: TestData
    failures: dict[tuple[str, int], str] = field(default_factory=dict)


def run_boards(order: BoardsOrder, command: str) -> Path:
    """Run what is missing, seed by seed, so that a table of one seed comes first.

    Returns:
        the path of board.md.

    Raises:
        UserError: no board, unusable data, unknown methods, or none that can run. A method that fails does not stop the
            others.
    """
    check_method_names(order.methods)
    methods, notes = _installed(order.methods)
    plans = _planned(order, methods, find_boards(order.root, order.boards))
    order.folder.mkdir(parents=True, exist_ok=True)
    runs = [(plan, method, seed) for seed in order.seeds for plan in plans for method in plan.methods]
    missing = [
        (plan, method, seed) for plan, method, seed in runs if read_result(plan.folder, plan.jobs[method, seed]) is None
    ]
    say("boards", f"{len(runs)} runs, {len(runs) - len(missing)} done, {len(missing)} to do -> {order.folder}/")
    for number, (plan, method, seed) in enumerate(missing):
        say("boards", f"run {number + 1}/{len(missing)}: {plan.board.name}, {title_of(method)}, seed {seed}")
        reason = run_method(plan.folder, plan.jobs[method, seed], plan.test)
        if reason is not None:
            say("boards", f"{plan.board.name}, {title_of(method)}, seed {seed} failed: {reason}")
            plan.failures[method, seed] = reason
        _write(order, command, plans, notes)
    return _write(order, command, plans, notes)


def is_for_xrays(method: str) -> bool:
    """Whether a method runs on X-rays only."""
    return Path(split_overrides(method)[0]).stem in FOR_XRAYS


def _installed(methods: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The methods whose packages are there, and a line for each other one."""
    missing = {method: package for method in methods if (package := missing_package(method)) is not None}
    remedy = install("peers", "flawmap-bench")
    notes = [f"{title_of(method)} is left out: {package} is not installed" for method, package in missing.items()]
    for note in notes:
        say("boards", f"{note} ({remedy})")
    if len(missing) == len(methods):
        raise UserError(f"{', '.join(sorted(set(missing.values())))} is not installed", "--methods", remedy)
    return tuple(method for method in methods if method not in missing), notes


def _planned(order: BoardsOrder, methods: Sequence[str], boards: Sequence[FoundBoard]) -> list[PlannedBoard]:
    """The runs of each board that has some; all data is read before anything runs.

    Raises:
        UserError: unusable data, or the methods are for X-rays and no board has any.
    """
    plans = []
    for board in boards:
        chosen = tuple(method for method in methods if board.is_xray or not is_for_xrays(method))
        if not chosen:
            continue
        say("boards", f"{board.name}: reading {board.location}")
        folder = order.folder / board.name.replace("/", "-")
        jobs, test = planned_jobs(
            PeersOrder(
                location=board.location,
                methods=chosen,
                seeds=order.seeds,
                folder=folder,
                image_size_px=order.image_size_px,
                minutes_per_method=order.minutes_per_method,
                overrides=order.overrides,
                device=order.device,
                max_steps=order.max_steps,
                with_thresholds=True,
            )
        )
        plans.append(PlannedBoard(board, chosen, folder, jobs, test))
    if not plans:
        names = ", ".join(board.name for board in boards)
        problem = f"{', '.join(methods)} runs on chest X-rays only, and there are none among {names}"
        raise UserError(problem, "--methods", "for example --methods standard")
    return plans


def _write(order: BoardsOrder, command: str, plans: Sequence[PlannedBoard], notes: Sequence[str]) -> Path:
    rows = [_row(plan, method, order.seeds) for plan in plans for method in plan.methods]
    methods = list(dict.fromkeys(method for plan in plans for method in plan.methods))
    everywhere = [method for method in methods if not is_for_xrays(method)]
    on_xrays = [method for method in methods if is_for_xrays(method)]
    return write_table(order.folder, rows, everywhere, on_xrays, _about(order, command, rows), notes)


def _row(plan: PlannedBoard, method: str, seeds: Sequence[int]) -> JudgedRow:
    by_seed = {seed: read_result(plan.folder, plan.jobs[method, seed]) for seed in seeds}
    results = {seed: result for seed, result in by_seed.items() if result is not None}
    failures = tuple(f"seed {seed}: {plan.failures[method, seed]}" for seed in seeds if (method, seed) in plan.failures)
    return judged(BoardRow(plan.board, method, results, failures), plan.test.samples)


def _about(order: BoardsOrder, command: str, rows: Sequence[JudgedRow]) -> Mapping[str, str]:
    device = choose_compute(order.device).device
    machine = environment(device)
    counts = sorted({int(result["threads"]) for one in rows for result in one.row.results.values()})
    threads = f"threads of each run: {' or '.join(map(str, counts)) or 'none ran'}"
    budget = "none" if order.minutes_per_method is None else f"{order.minutes_per_method:g} min"
    return {
        "command": command,
        "seeds": ", ".join(map(str, order.seeds)),
        "flawmap's recipes": "trained in full on all good images, thresholds from folds; their own image sizes",
        "other methods": f"{order.image_size_px} px, resized whole; training budget {budget}",
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['device_name'] or device}, {threads}",
        "values": "in %, at the images' own resolution, end of training; mean ± standard error over seeds; a dash "
        "where a board does not have the measure, or nothing has finished",
    }
