"""flawmap benchmark ablations DATA."""

from argparse import Namespace
from pathlib import Path

DEFAULT_BASE = "paper_cpu"  # the tables change the paper's stages, at a size that a processor can train


def run_ablation_tables(arguments: Namespace, location: str, seeds: tuple[int, ...]) -> Path:
    """Run what is missing of the tables; returns the path of scoreboard.md.

    Raises:
        UserError: a table that is named but needs a setting that was not given.
    """
    from flawmap.engine.progress import say
    from flawmap.recipe.files import load_recipe
    from flawmap_bench.ablation_rows import read_tables, usable_tables
    from flawmap_bench.ablations import AblationOrder, run_ablations

    base = arguments.base or DEFAULT_BASE
    read = read_tables(arguments.table)
    tables = usable_tables(read, load_recipe(base, arguments.set), bool(arguments.table))
    for table in read:
        if table not in tables:
            say("ablations", f"table {table.key} is left out: it needs --set {table.needs}=VALUE")
    order = AblationOrder(
        location=location,
        base=base,
        overrides=tuple(arguments.set),
        tables=tables,
        seeds=seeds,
        folder=Path(arguments.output or "runs/ablations"),
        device=arguments.device,
        limit_seconds=None if arguments.minutes is None else 60 * arguments.minutes,
    )
    return run_ablations(order, arguments.command)
