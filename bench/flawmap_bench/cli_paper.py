"""flawmap benchmark paper --table N --data ROOT."""

import json
from argparse import Namespace
from pathlib import Path

from flawmap.errors import UserError
from flawmap_bench.cli_peers import method_names, refuse_out_of_range

TABLES = ("1", "2", "3", "4")


def run_table(arguments: Namespace, root: str, seeds: tuple[int, ...] | None) -> int:
    """Run what is missing of one table; prints it, measured beside published.

    Raises:
        UserError: not exactly one of the paper's tables is asked for.
    """
    from flawmap_bench.paper import PER_CLASS, PaperOrder, run_paper

    if len(arguments.table) != 1 or arguments.table[0] not in TABLES:
        asked = ", ".join(arguments.table) or "nothing"
        problem = f"--table is {asked}, must be one of {', '.join(TABLES)}"
        raise UserError(problem, "flawmap benchmark paper", "for example --table 1")
    refuse_out_of_range(arguments)
    table = arguments.table[0]
    order = PaperOrder(
        table=int(table),  # pyright: ignore[reportArgumentType]
        root=root,
        base=arguments.base,
        overrides=tuple(arguments.set),
        seeds=seeds,
        folder=Path(arguments.output or "runs/paper"),
        device=arguments.device,
        limit_seconds=None if arguments.minutes is None else 60 * arguments.minutes,
        methods=method_names(arguments.methods) if arguments.methods is not None else (),
        image_size_px=arguments.image_size,
        minutes_per_method=arguments.minutes_per_method,
    )
    board = run_paper(order, arguments.command)
    if arguments.json:
        print(json.dumps(json.loads(board.with_suffix(".json").read_text(encoding="utf-8"))))
        return 0
    print(board.read_text(encoding="utf-8"), end="")
    if (board.parent / PER_CLASS).is_file():
        print("\n" + (board.parent / PER_CLASS).read_text(encoding="utf-8"), end="")
    return 0
