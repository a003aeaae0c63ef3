"""flawmap benchmark SUITE DATA."""

import json
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_device_argument, add_json_argument
from flawmap.cli.benchmark_peers import add_peers_arguments, run_peers_suite
from flawmap.errors import UserError

EXAMPLE = "for example --seeds 0,1,2"


def add_arguments(parser: ArgumentParser) -> None:
    """SUITE, DATA, which rows, and where results go."""
    parser.add_argument(
        "suite",
        choices=("ablations", "peers"),
        help="ablations: variants of the method, row by row; peers: other methods on the same files and scorer",
    )
    parser.add_argument("data", type=str, help="data with labelled test images: MVTec AD folder, manifest.csv, or elpv")
    parser.add_argument("--base", type=str, default="quick", help="the recipe that every row changes (default: quick)")
    parser.add_argument(
        "--table", action="append", default=[], help="a table by name or YAML file; repeat (default: all)"
    )
    parser.add_argument("--seeds", type=str, default="0", help="such as 0,1,2 (default: 0)")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one setting of all rows")
    parser.add_argument(
        "--output", type=str, default=None, help="folder that is filled and gone on with (default: runs/ablations)"
    )
    parser.add_argument(
        "--minutes", type=float, default=None, help="begin no run that would probably end later; call again to go on"
    )
    add_peers_arguments(parser)
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Run what is missing; prints the scoreboard."""
    if arguments.suite == "peers":
        board = run_peers_suite(arguments, seeds_of(arguments.seeds))
    else:
        board = _run_ablations(arguments)
    if arguments.json:
        print(json.dumps(json.loads(board.with_suffix(".json").read_text(encoding="utf-8"))))
    else:
        print(board.read_text(encoding="utf-8"), end="")
    return 0


def _run_ablations(arguments: Namespace) -> Path:
    from flawmap.benchmark.ablation_rows import read_tables
    from flawmap.benchmark.ablations import AblationOrder, run_ablations

    order = AblationOrder(
        location=arguments.data,
        base=arguments.base,
        overrides=tuple(arguments.set),
        tables=read_tables(arguments.table),
        seeds=seeds_of(arguments.seeds),
        folder=Path(arguments.output or "runs/ablations"),
        device=arguments.device,
        limit_seconds=None if arguments.minutes is None else 60 * arguments.minutes,
    )
    return run_ablations(order, arguments.command)


def seeds_of(text: str) -> tuple[int, ...]:
    """ "0,1,2" as numbers, each once.

    Raises:
        UserError: something else.
    """
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise UserError(
            f"--seeds is {text!r}, must be whole numbers", "--seeds", "for example --seeds 0,1,2"
        ) from error
    if min(seeds) < 0:
        raise UserError(f"--seeds is {text!r}, must not be negative", "--seeds", "for example --seeds 0,1,2")
    return seeds
