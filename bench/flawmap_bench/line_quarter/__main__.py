"""A quarter on a line with real images: a change of camera, one of product, and what calibration and updates help.

    python -m flawmap_bench.line_quarter --root ROOT --output line --seeds 0 1 2

It writes line.md, line.png and weeks/ with a CSV for each board, line and seed. Called again, it computes what is
missing. The order of the parts is told in ``parts.py``, what the operator does in ``operator.py``.
"""

import argparse
import csv
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path

import torch

from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.memory.appearance import block_indices
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.json_files import write_csv
from flawmap.vit.weights import load_encoder
from flawmap_bench.boards.all_boards.find import ELPV, FoundBoard, find_boards
from flawmap_bench.few_images.cached_encoder import CachedEncoder
from flawmap_bench.line_quarter.lines import LINES, Quarter
from flawmap_bench.line_quarter.operator import Week
from flawmap_bench.line_quarter.parts import FIRST, OTHER, Part, parts_at, product_by_format, quarter
from flawmap_bench.line_quarter.table_and_figure import figure_png, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, and write table and figure after each board of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="holds the data sets")
    parser.add_argument("--boards", nargs="+", default=["mtd", ELPV], help="mtd, elpv")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, required=True, help="for results and encoded images (1.2 MB each)")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        _run(options, shlex.join(["python", "-m", "flawmap_bench.line_quarter", *(arguments or sys.argv[1:])]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace, command: str) -> None:
    done: dict[str, dict[str, list[list[Week]]]] = {}
    for seed in options.seeds:
        # The head draws maps only, and costs as much as all the rest.
        recipe = replace(load_recipe(options.recipe, options.set), seed=seed, method="memory")
        for board in find_boards(options.root, options.boards):
            by_line = done.setdefault(board.name, {name: [] for name in LINES})
            for name, weeks in _quarter(board, recipe, options.output).items():
                by_line[name].append(weeks)
            atomic_write_text(options.output / "line.md", f"`{command}`\n\n{table(done)}")
            (options.output / "line.png").write_bytes(figure_png(done))


def _quarter(board: FoundBoard, recipe: Recipe, output: Path) -> dict[str, list[Week]]:
    """All lines of a board and seed; what is in the output folder is read."""
    files = {name: output / "weeks" / f"{board.name}-{name.replace(', ', '-')}-{recipe.seed}.csv" for name in LINES}
    if missing := [name for name, file in files.items() if not file.is_file()]:
        began = time.process_time()
        encoder, _ = load_encoder(recipe.model, seed=recipe.seed)
        blocks = block_indices(encoder, recipe.memory.blocks)
        cached = CachedEncoder(encoder.eval().requires_grad_(False), blocks, output / "cache").eval()
        training, line = quarter(_parts(board, recipe), recipe.seed)
        lines = Quarter(training, line, cached.requires_grad_(False), recipe, output / "other camera" / board.name)
        say("line", f"{board.name}, seed {recipe.seed}: trained, {time.process_time() - began:.0f} s")
        for name in missing:
            rows = [astuple(week) for week in lines.run(name)]
            files[name].parent.mkdir(parents=True, exist_ok=True)
            write_csv(files[name], tuple(field.name for field in fields(Week)), rows)
            say("line", f"{board.name}, seed {recipe.seed}, {name}: {time.process_time() - began:.0f} s")
    return {name: read_weeks(file) for name, file in files.items()}


def _parts(board: FoundBoard, recipe: Recipe) -> list[Part]:
    if board.name != ELPV:
        return parts_at(board.location, recipe.data, product_by_format)
    mono = parts_at(f"{board.location}:cell=mono", recipe.data, lambda _: FIRST)
    return mono + parts_at(f"{board.location}:cell=poly", recipe.data, lambda _: OTHER)


def read_weeks(file: Path) -> list[Week]:
    """The weeks of a line from its CSV."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [*csv.DictReader(lines)]
    weeks = []
    for row in rows:
        threshold = float(row.pop("threshold"))
        weeks.append(Week(threshold=threshold, **{name: int(count) for name, count in row.items()}))
    return weeks


if __name__ == "__main__":
    sys.exit(main())
