"""All boards in one table; the code is in :mod:`flawmap_bench.boards.all_boards`.

    python -m flawmap_bench.boards --root DATA --seeds 0,1,2 --methods standard,chest_xray,padim

Below DATA lie data sets in any layout with a test (DATA/mtd, DATA/mvtec/screw, or the categories of MVTec AD or VisA);
``elpv`` comes from its package. Each board, method and seed runs in a process of its own, one after the other. The same
command again, even after a kill, runs only what is missing.
"""

import argparse
import shlex
import sys
from pathlib import Path

from flawmap.cli.arguments import add_device_argument
from flawmap.cli.streams import show_every_character
from flawmap.errors import UserError
from flawmap_bench.cli import names_of, refuse_out_of_range, seeds_of

DESCRIPTION = "Run methods on all boards below a folder, and print one table; resumable."


def parser() -> argparse.ArgumentParser:
    """Of the command's words."""
    found = argparse.ArgumentParser(prog="python -m flawmap_bench.boards", description=DESCRIPTION, allow_abbrev=False)
    found.add_argument("--root", default=".", help="the folder that holds the data sets (default: this one)")
    found.add_argument("--boards", help="such as screw,mtd,elpv (default: all that lie in the folder)")
    methods = "standard,quick+memory.tokens=2000,padim,... (default: standard, and chest_xray on X-rays)"
    found.add_argument("--methods", help=methods)
    found.add_argument("--seeds", default="0,1,2", help="default: 0,1,2")
    found.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one setting of all recipes")
    found.add_argument(
        "--output", default="runs/boards", help="folder of the table and the runs (default: runs/boards)"
    )
    found.add_argument(
        "--minutes-per-method",
        type=float,
        default=10.0,
        help="minutes of training of other methods; recipes train in full (default: 10)",
    )
    found.add_argument("--image-size", type=int, default=224, help="of other methods, in px (default: 224)")
    add_device_argument(found)
    return found


def main(words: list[str] | None = None) -> int:
    """Run what is missing, and print the table: 0 done, 2 a usage or data error, 130 interrupted."""
    words = sys.argv[1:] if words is None else words
    show_every_character()
    arguments = parser().parse_args(words)
    try:
        print(_run(arguments, shlex.join(["python", "-m", "flawmap_bench.boards", *words])), end="")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        remedy = "check the path, its permissions and the free space"
        print(f"error: {UserError(error.strerror or str(error), str(error.filename or ''), remedy)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; finished runs are kept (the same command continues)", file=sys.stderr)
        return 130
    return 0


def _run(arguments: argparse.Namespace, command: str) -> str:
    from flawmap_bench.boards.all_boards.run import DEFAULT_METHODS, BoardsOrder, run_boards

    refuse_out_of_range(arguments)
    order = BoardsOrder(
        root=Path(arguments.root),
        folder=Path(arguments.output),
        boards=None if arguments.boards is None else names_of(arguments.boards),
        methods=DEFAULT_METHODS if arguments.methods is None else names_of(arguments.methods),
        seeds=seeds_of(arguments.seeds),
        image_size_px=arguments.image_size,
        minutes_per_method=arguments.minutes_per_method,
        overrides=tuple(arguments.set),
        device=arguments.device,
    )
    return run_boards(order, command).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
