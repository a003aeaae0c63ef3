"""flawmap benchmark SUITE DATA."""

import json
from argparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_device_argument, add_json_argument
from flawmap.errors import UserError
from flawmap_bench.cli_ablations import run_ablation_tables
from flawmap_bench.cli_peers import add_peers_arguments, run_peers_suite

EXAMPLE = "for example --seeds 0,1,2"


def add_arguments(parser: ArgumentParser) -> None:
    """SUITE, DATA, which rows, and where results go."""
    parser.add_argument(
        "suite",
        choices=("ablations", "paper", "peers"),
        help="ablations: variants of the method, row by row; paper: a table of the paper, measured beside published; "
        "peers: other methods on the same files with the same scorer",
    )
    parser.add_argument(
        "data",
        type=str,
        nargs="?",
        help="data with labelled test images: MVTec AD folder, manifest.csv, or elpv; for the paper's tables the "
        "folder of MVTec AD's 15 classes (1, 3, 4) or of the NIH chest X-rays (2)",
    )
    parser.add_argument("--data", type=str, default=None, dest="data_option", help="the same as DATA")
    parser.add_argument(
        "--base", type=str, default=None, help="the recipe that every row changes (default: paper_cpu; of paper: paper)"
    )
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        help="a table by name or YAML file; repeat (default: all); of paper: 1, 2, 3 or 4",
    )
    parser.add_argument("--seeds", type=str, default=None, help="such as 0,1,2 (default: 0; of paper: as published)")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one setting of all rows")
    parser.add_argument(
        "--output", type=str, default=None, help="folder that is filled and gone on with (default: runs/SUITE)"
    )
    parser.add_argument(
        "--minutes", type=float, default=None, help="begin no run that would probably end later; call again to go on"
    )
    add_peers_arguments(parser)
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Run what is missing; prints the scoreboard."""
    location = arguments.data or arguments.data_option
    if location is None:
        raise UserError(
            "there is no data to measure on", f"flawmap benchmark {arguments.suite}", "name it: --data ROOT"
        )
    if arguments.suite == "paper":
        from flawmap_bench.cli_paper import run_table

        return run_table(arguments, location, seeds_of(arguments.seeds) if arguments.seeds else None)
    seeds = seeds_of(arguments.seeds or "0")
    if arguments.suite == "peers":
        board = run_peers_suite(arguments, location, seeds)
    else:
        board = run_ablation_tables(arguments, location, seeds)
    if arguments.json:
        print(json.dumps(json.loads(board.with_suffix(".json").read_text(encoding="utf-8"))))
    else:
        print(board.read_text(encoding="utf-8"), end="")
    return 0


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
