"""flawmap check DATA."""

import json
from collections import Counter
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_data_arguments, add_json_argument, add_recipe_arguments, recipe_of


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    parser.add_argument("data", type=str, help="folder of good images, MVTec AD folder, manifest.csv, or elpv")
    add_recipe_arguments(parser)
    add_data_arguments(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Look at the data; prints what was found. Exits with 2 at the first thing that training would refuse."""
    from flawmap.data.checks import check_leak, check_training_data
    from flawmap.data.open_data import open_training_data

    recipe = recipe_of(arguments, "standard")
    data = open_training_data(arguments.data, recipe.data)
    checked = check_training_data(data, recipe.calibration.held_out_fraction, arguments.skip_unreadable)
    leak = check_leak(checked, arguments.data, recipe.data)
    sizes = Counter((fact.width_px, fact.height_px) for fact in checked.facts)
    found: dict[str, Any] = {
        "data": checked.data.name,
        "layout": checked.data.layout,
        "good_images": len(checked.data.images),
        "identical_images": checked.num_duplicates,
        "skipped": [{"key": s.key, "reason": s.reason} for s in checked.data.skipped],
        "sizes": [{"width_px": w, "height_px": h, "images": n} for (w, h), n in sizes.most_common(5)],
        "distinct_sizes": len(sizes),
        "test_files_compared": leak.num_compared if leak else 0,
    }
    print(json.dumps(found) if arguments.json else as_text(found))
    return 0


def as_text(found: dict[str, Any]) -> str:
    """What was found, for people."""
    lines = [f'data       {found["data"]}  {found["good_images"]} good images, layout "{found["layout"]}"']
    largest = ", ".join(f"{s['width_px']}x{s['height_px']} ({s['images']})" for s in found["sizes"])
    more = (
        f", {found['distinct_sizes']} different sizes in all" if found["distinct_sizes"] > len(found["sizes"]) else ""
    )
    lines.append(f"sizes      {largest}{more}")
    lines.append(f"identical  {found['identical_images']} images repeat another one's content")
    for skipped in found["skipped"]:
        lines.append(f"left out   {skipped['key']}: {skipped['reason']}")
    if found["test_files_compared"]:
        lines.append(f"leak       none: {found['test_files_compared']} test files share no content with training")
    return "\n".join(lines)
