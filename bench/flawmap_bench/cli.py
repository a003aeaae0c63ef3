"""flawmap benchmark SUITE DATA."""

import json
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.cli.arguments import add_cluster_argument, add_device_argument, add_json_argument
from flawmap.errors import UserError

if TYPE_CHECKING:
    from flawmap_bench.boards.ablations import Rows

PAPER_TABLES = ("1", "2", "3", "4")
SMALLEST_SIZE_PX, LARGEST_SIZE_PX = 32, 1024
DEFAULT_BASE = "paper_cpu"  # the tables change the paper's stages, at a size that a processor can train


SUITES = {
    "ablations": "variants of the method, row by row",
    "paper": "a table of the paper, measured beside published",
    "peers": "other methods on the same files with the same scorer",
}


def add_arguments(parser: ArgumentParser) -> None:
    """SUITE, each with its own options; DATA, seeds, and where results go."""
    suites = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    for name, meaning in SUITES.items():
        suite = suites.add_parser(name, help=meaning, description=meaning, allow_abbrev=False)
        _add_common(suite, name)
        _OPTIONS[name](suite)
        add_device_argument(suite)
        add_json_argument(suite)


def _add_common(parser: ArgumentParser, suite: str) -> None:
    """What each suite has."""
    data = "data with labelled test images: MVTec AD folder, manifest.csv, or elpv"
    if suite == "paper":
        data = "the folder of MVTec AD's 15 classes (tables 1, 3 and 4), or of the NIH chest X-rays (table 2)"
    parser.add_argument("data", nargs="?", help=data)
    parser.add_argument("--data", dest="data_option", help="the same as DATA")
    default = "as published" if suite == "paper" else "0"
    parser.add_argument("--seeds", help=f"such as 0,1,2 (default: {default})")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one setting of all rows")
    parser.add_argument(
        "--output", help=f"output folder; an interrupted benchmark resumes there (default: runs/{suite})"
    )


def _add_ablations(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        help="a table by name (simulators, masking, ratio, ...) or YAML file; repeat (default: all that the "
        "base can show; those of stage 1 need --base cpu, or --set pretrain.enabled=true)",
    )
    base = "the recipe that every row changes; cpu: a small one for two cores (default: paper_cpu)"
    parser.add_argument("--base", help=base)
    _add_minutes(parser)
    add_cluster_argument(parser, "run rows")


def _add_paper(parser: ArgumentParser) -> None:
    parser.add_argument("--table", action="append", default=[], help="1, 2, 3 or 4")
    parser.add_argument("--base", help="the recipe that every row changes (default: paper)")
    methods = "which other methods of table 1 or 2 to run as well: padim,draem,... (default: none)"
    parser.add_argument("--methods", help=methods)
    _add_minutes(parser)
    add_cluster_argument(parser, "run rows of flawmap's own")
    _add_method_budget(parser)


def _add_peers(parser: ArgumentParser) -> None:
    methods = "padim,patchcore,standard,... (default: all of the paper's, four of today's, standard, quick)"
    parser.add_argument("--methods", help=methods)
    _add_method_budget(parser)
    add_cluster_argument(parser, "run methods")


_OPTIONS = {"ablations": _add_ablations, "paper": _add_paper, "peers": _add_peers}


def _add_minutes(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=float, help="start no run that would probably end later; call again to resume"
    )


def _add_method_budget(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--minutes-per-method", type=float, default=5.0, help="minutes of training for each method (default: 5)"
    )
    size = "in px, for all methods but flawmap's recipes, which have their own (default: 224)"
    parser.add_argument("--image-size", type=int, default=224, help=size)


def run(arguments: Namespace) -> int:
    """Run what is missing; prints the scoreboard.

    Raises:
        UserError: no data, an argument out of range, or an unknown table or method.
    """
    location = arguments.data or arguments.data_option
    if location is None:
        raise UserError("no data to measure on", f"flawmap benchmark {arguments.suite}", "add --data ROOT")
    suites = {"ablations": _run_ablations, "paper": _run_paper, "peers": _run_peers}
    board = suites[arguments.suite](arguments, location)
    if arguments.json:
        print(json.dumps(json.loads(board.with_suffix(".json").read_text(encoding="utf-8"))))
        return 0
    print(board.read_text(encoding="utf-8"), end="")
    per_class = board.with_name("per_class.md")
    if per_class.is_file():
        print("\n" + per_class.read_text(encoding="utf-8"), end="")
    return 0


def _run_ablations(arguments: Namespace, location: str) -> Path:
    """Run what is missing of the tables; returns the path of scoreboard.md."""
    from flawmap.engine.progress import say
    from flawmap.recipe.files import load_recipe
    from flawmap_bench.boards.ablation_tables import (
        CPU_BASE,
        read_tables,
        refuse_overrides_without_effect,
        tables_with_effect,
        usable_tables,
    )
    from flawmap_bench.boards.ablations import AblationOrder, run_ablations

    base = arguments.base or DEFAULT_BASE
    base = str(CPU_BASE) if base == "cpu" else base
    read = read_tables(arguments.table)
    tables = usable_tables(read, load_recipe(base, arguments.set), bool(arguments.table))
    for table in read:
        if table not in tables:
            say("ablations", f"table {table.key} is left out: it needs --set {table.needs}=VALUE")
    if not arguments.table:
        tables, useless = tables_with_effect(tables, base, arguments.set)
        for key, error in useless.items():
            say("ablations", f"table {key} is left out: {error.problem}; remedy: {error.remedy}")
        if not tables:
            raise next(iter(useless.values()))
    refuse_overrides_without_effect(tables, base, arguments.set)
    order = AblationOrder(
        location=location,
        base=base,
        overrides=tuple(arguments.set),
        tables=tables,
        seeds=seeds_of(arguments.seeds or "0"),
        folder=Path(arguments.output or "runs/ablations"),
        device=arguments.device,
        limit_seconds=_limit_seconds(arguments),
    )
    return run_ablations(order, arguments.command, _rows(arguments))


def _run_paper(arguments: Namespace, root: str) -> Path:
    """Run what is missing of one table; returns the path of scoreboard.md."""
    from flawmap_bench.boards.paper import PaperOrder, run_paper

    if len(arguments.table) != 1 or arguments.table[0] not in PAPER_TABLES:
        given = ", ".join(arguments.table) or "missing"
        problem = f"--table is {given}, must be one of {', '.join(PAPER_TABLES)}"
        raise UserError(problem, "flawmap benchmark paper", "for example --table 1")
    refuse_out_of_range(arguments)
    order = PaperOrder(
        table=int(arguments.table[0]),  # pyright: ignore[reportArgumentType]
        root=root,
        base=arguments.base,
        overrides=tuple(arguments.set),
        seeds=seeds_of(arguments.seeds) if arguments.seeds else None,
        folder=Path(arguments.output or "runs/paper"),
        device=arguments.device,
        limit_seconds=_limit_seconds(arguments),
        methods=() if arguments.methods is None else names_of(arguments.methods),
        image_size_px=arguments.image_size,
        minutes_per_method=arguments.minutes_per_method,
    )
    return run_paper(order, arguments.command, _rows(arguments))


def _run_peers(arguments: Namespace, location: str) -> Path:
    """Run what is missing of the methods; returns the path of scoreboard.md."""
    from flawmap_bench.boards.peers import PeersOrder, run_peers
    from flawmap_bench.methods import DEFAULT_METHODS

    seeds = seeds_of(arguments.seeds or "0")
    refuse_out_of_range(arguments)
    order = PeersOrder(
        location=location,
        methods=DEFAULT_METHODS if arguments.methods is None else names_of(arguments.methods),
        seeds=seeds,
        folder=Path(arguments.output or "runs/peers"),
        image_size_px=arguments.image_size,
        minutes_per_method=arguments.minutes_per_method,
        overrides=tuple(arguments.set),
        device=arguments.device,
    )
    if arguments.cluster is None:
        return run_peers(order, arguments.command)
    from flawmap_bench.boards.cluster_methods import in_cluster

    return run_peers(order, arguments.command, in_cluster(arguments.cluster))


def seeds_of(text: str) -> tuple[int, ...]:
    """ "0,1,2" as numbers, each once."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise UserError(
            f"--seeds is {text!r}, must be whole numbers", "--seeds", "for example --seeds 0,1,2"
        ) from error
    if min(seeds) < 0:
        raise UserError(f"--seeds is {text!r}, must not be negative", "--seeds", "for example --seeds 0,1,2")
    return seeds


def _rows(arguments: Namespace) -> "Rows | None":
    """What runs rows in a cluster; None where this process does."""
    if arguments.cluster is None:
        return None
    if arguments.minutes is not None:
        problem = "in a cluster all runs are started at once, so --minutes has no effect"
        raise UserError(problem, "--minutes", "leave out --minutes; the same command resumes after Ctrl-C")
    from flawmap_bench.boards.cluster_rows import in_cluster

    return in_cluster(arguments.cluster)


def _limit_seconds(arguments: Namespace) -> float | None:
    return None if arguments.minutes is None else 60 * arguments.minutes


def names_of(text: str) -> tuple[str, ...]:
    """ "padim, draem" as names, each once; a comma in brackets is part of a name (``quick+memory.blocks=[4,8]``)."""
    return tuple(dict.fromkeys(name.strip() for name in re.split(r",(?![^\[]*\])", text)))


def refuse_out_of_range(arguments: Namespace) -> None:
    """Check the methods' image size and budget."""
    if not 0 < arguments.minutes_per_method < float("inf"):
        raise UserError(
            f"--minutes-per-method is {arguments.minutes_per_method:g}, must be above 0",
            "--minutes-per-method",
            "for example --minutes-per-method 5",
        )
    if not SMALLEST_SIZE_PX <= arguments.image_size <= LARGEST_SIZE_PX:
        raise UserError(
            f"--image-size is {arguments.image_size}, must be between {SMALLEST_SIZE_PX} and {LARGEST_SIZE_PX}",
            "--image-size",
            "for example --image-size 224",
        )
