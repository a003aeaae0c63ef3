"""How much do few good images teach? Curves over their number, beside AnomalyDINO and PatchCore on the same tokens.

    python -m flawmap_bench.few_images --root ROOT --boards screw,transistor,toothbrush,mtd,elpv \
        --numbers 1,2,4,8,16,all --draws 5 --output few_images

It writes few_images.md and few_images.png, and points/ with a JSON file per point. Called again, it computes what is
missing.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.reproducibility import atomic_write_text
from flawmap_bench.boards.all_boards.find import find_boards
from flawmap_bench.few_images.board import read_board
from flawmap_bench.few_images.curves import DEFAULT_METHODS, METHODS, Point, run_point
from flawmap_bench.few_images.table_and_figure import figure_png, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute what is missing, draw by draw, and write table and figure after each board of each draw."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        _run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    recipe, output = load_recipe(options.recipe, options.set), options.output
    found = find_boards(options.root, options.boards)
    boards = {board.name: read_board(board, recipe, options.most_test, output / "cache") for board in found}
    points: list[Point] = []
    for draw in range(options.draws):
        for board in boards.values():
            for number in options.numbers:
                if draw and number is None:
                    continue  # all images are the same in every draw
                for method in options.methods:
                    point = run_point(board, method, draw, number, recipe, output / "points")
                    points += [] if point is None else [point]
            _write(points, boards, options)


def _write(points: Sequence[Point], boards: dict, options: argparse.Namespace) -> None:
    command = shlex.join(["python", "-m", "flawmap_bench.few_images", *(options.arguments or sys.argv[1:])])
    tests = {name: (int((~board.is_anomalous).sum()), int(board.is_anomalous.sum())) for name, board in boards.items()}
    atomic_write_text(options.output / "few_images.md", table(points, tests, command))
    (options.output / "few_images.png").write_bytes(figure_png(points))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="holds the data sets")
    parser.add_argument("--boards", type=lambda text: tuple(text.split(",")), help="their names; default: all")
    parser.add_argument("--numbers", type=_numbers, default="1,2,4,8,16,all", help="of good images")
    parser.add_argument("--draws", type=int, default=5, help="of good images, by the seeds 0, 1, ...")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for results and encoded images (1.2 MB each)"
    )
    parser.add_argument("--methods", type=_methods, default=DEFAULT_METHODS, help="; ".join(METHODS).replace("%", "%%"))
    parser.add_argument("--most-test", type=int, default=100, help="test images per board, drawn by a fixed seed")
    parser.add_argument("--recipe", default="quick", help="of flawmap, whose encoder and size all methods share")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(arguments=None)
    return parser


def _numbers(text: str) -> tuple[int | None, ...]:
    return tuple(None if part == "all" else int(part) for part in text.split(","))


def _methods(text: str) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(";"))
    if unknown := set(chosen) - set(METHODS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; choose from: {'; '.join(METHODS)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
