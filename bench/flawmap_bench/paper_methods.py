"""The other methods of the paper's tables 1 and 2: their names here, and their runs on one class."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import DataSettings
from flawmap_bench.ablations import AblationOrder
from flawmap_bench.paper_board import ClassResults
from flawmap_bench.paper_numbers import OURS, TABLE_1, TABLE_2
from flawmap_bench.peers_board import PeersOrder, run_peers

FOLDER = "methods"  # below a class's folder
_ABBREVIATED = {"CutPaste (3-way)": "cutpaste"}
OF_ONE_METHOD = "finetune.simulation.nsa_class="  # a change of the recipe that concerns NSA, too
OURS_ALONE = ("pretrain_on", "image_size_px")  # of the data settings: the board has a size of its own


def name_of(printed: str) -> str:
    """The name by which ``flawmap benchmark peers`` knows a method of the paper's tables."""
    return _ABBREVIATED.get(printed, printed.lower())


def methods_of_table(table: int) -> dict[str, str]:
    """Names of the other methods in the table, each with how it is printed there."""
    lines = {1: TABLE_1, 2: TABLE_2}.get(table, ())
    return {name_of(line.method): line.method for line in lines if line.method != OURS}


def check_methods(table: int, methods: tuple[str, ...]) -> None:
    """Raises: UserError: the table has no such method."""
    known = methods_of_table(table)
    strange = [name for name in methods if name not in known]
    if strange:
        choice = f"choose of {', '.join(known)}" if known else "tables 1 and 2 have other methods"
        raise UserError(f"table {table} has no method {strange[0]!r}", "--methods", choice)


def run_methods(
    table: int,
    of_class: AblationOrder,
    methods: tuple[str, ...],
    image_size_px: int,
    minutes: float | None,
    command: str,
) -> ClassResults:
    """Run what is missing of the methods on one class, each in a process of its own.

    Args:
        table: 1 or 2, whose names are used.
        of_class: where the class lies, its seeds, and its folder.
        methods: by name.
        image_size_px: of all of them.
        minutes: of training, for each.
        command: for the record.

    Returns:
        what each finished seed measured, by the method's name as printed.
    """
    of_methods = (
        *_same_data(of_class),
        *(change for change in of_class.overrides if change.startswith(OF_ONE_METHOD)),
    )
    order = PeersOrder(
        location=of_class.location,
        methods=methods,
        seeds=of_class.seeds,
        folder=of_class.folder / FOLDER,
        image_size_px=image_size_px,
        minutes_per_method=minutes,
        overrides=of_methods,
        device=of_class.device,
    )
    content = json.loads(run_peers(order, command).with_suffix(".json").read_text(encoding="utf-8"))
    printed = methods_of_table(table)
    return {
        printed[row["method"]]: {int(seed): _as_ours(result) for seed, result in row["measured"].items()}
        for row in content["rows"]
    }


def _same_data(of_class: AblationOrder) -> tuple[str, ...]:
    """Changes that let other methods read the data as our recipe does, whoever set it: the base or an override."""
    ours, default = load_recipe(of_class.base, of_class.overrides).data, DataSettings()
    return tuple(
        f"data.{field.name}={json.dumps(getattr(ours, field.name), ensure_ascii=False)}"
        for field in fields(DataSettings)
        if field.name not in OURS_ALONE and getattr(ours, field.name) != getattr(default, field.name)
    )


def _as_ours(result: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a board needs, by the names that an ablation's result has."""
    auroc = {level: (result[level].get("auroc") or {}).get("value") for level in ("image", "pixel")}
    return {
        "image_auroc": auroc["image"],
        "pixel_auroc": auroc["pixel"],
        "train_seconds": result["train_seconds"],
        "groups": result["groups"],
    }
