"""The other methods of the paper's tables 1 and 2: their names here, and their runs on one class."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import DataSettings
from flawmap_bench.boards.ablations import AblationOrder
from flawmap_bench.boards.paper_board import ClassResults
from flawmap_bench.boards.peers import PeersOrder, run_peers
from flawmap_bench.boards.published import OURS, TABLE_1, TABLE_2, method_name

FOLDER = "methods"  # inside a class's folder
NSA_CLASS = "finetune.simulation.nsa_class="  # an override of the recipe that concerns NSA, too
OURS_ALONE = ("pretrain_on", "image_size_px")  # data settings that a board has its own value for


def methods_of_table(table: int) -> dict[str, str]:
    """Names of the other methods in the table, each with how it is printed there."""
    printed_names = {1: TABLE_1, 2: TABLE_2}.get(table, {})
    return {method_name(printed): printed for printed in printed_names if printed != OURS}


def check_methods(table: int, methods: tuple[str, ...]) -> None:
    """Refuse methods that the table does not have.

    Raises:
        UserError: naming the first of them.
    """
    known = methods_of_table(table)
    unknown = [name for name in methods if name not in known]
    if unknown:
        choice = f"choose from {', '.join(known)}" if known else "only tables 1 and 2 have other methods"
        raise UserError(f"table {table} has no method {unknown[0]!r}", "--methods", choice)


def run_methods(
    table: int,
    class_order: AblationOrder,
    methods: tuple[str, ...],
    image_size_px: int,
    minutes: float | None,
    command: str,
) -> ClassResults:
    """Run what is missing of the methods on one class, each in a process of its own.

    Args:
        table: 1 or 2, whose names are used.
        class_order: where the class lies, its seeds, and its folder.
        methods: by name.
        image_size_px: of all of them.
        minutes: of training, for each.
        command: for the record.

    Returns:
        what each finished seed measured, by the method's name as printed.
    """
    nsa_class = tuple(change for change in class_order.overrides if change.startswith(NSA_CLASS))
    order = PeersOrder(
        location=class_order.location,
        methods=methods,
        seeds=class_order.seeds,
        folder=class_order.folder / FOLDER,
        image_size_px=image_size_px,
        minutes_per_method=minutes,
        overrides=(*_same_data(class_order), *nsa_class),
        device=class_order.device,
    )
    content = json.loads(run_peers(order, command).with_suffix(".json").read_text(encoding="utf-8"))
    printed = methods_of_table(table)
    return {
        printed[row["method"]]: {int(seed): _board_values(result) for seed, result in row["measured"].items()}
        for row in content["rows"]
    }


def _same_data(class_order: AblationOrder) -> tuple[str, ...]:
    """Overrides that let other methods read the data as our recipe does, whether its base or an override says so."""
    ours, default = load_recipe(class_order.base, class_order.overrides).data, DataSettings()
    return tuple(
        f"data.{field.name}={json.dumps(getattr(ours, field.name), ensure_ascii=False)}"
        for field in fields(DataSettings)
        if field.name not in OURS_ALONE and getattr(ours, field.name) != getattr(default, field.name)
    )


def _board_values(result: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a board needs, under the names that an ablation's result has."""
    auroc = {level: (result[level].get("auroc") or {}).get("value") for level in ("image", "pixel")}
    return {
        "image_auroc": auroc["image"],
        "pixel_auroc": auroc["pixel"],
        "train_seconds": result["train_seconds"],
        "by_stratum": result["by_stratum"],
    }
