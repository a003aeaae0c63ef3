"""flawmap check DATA."""

import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawmap.cli.arguments import (
    add_data_arguments,
    add_json_argument,
    add_recipe_arguments,
    recipe_of,
)
from flawmap.errors import UserError
from flawmap.runs.result_folders import free_path

if TYPE_CHECKING:
    from flawmap.data.sample import LabelledImage, TrainingData
    from flawmap.recipe.settings import Recipe

GALLERY_IMAGES = 6


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    parser.add_argument("data", type=str, help="folder of good images, MVTec AD folder, manifest.csv, or elpv")
    add_recipe_arguments(parser)
    add_data_arguments(parser)
    parser.add_argument(
        "--gallery",
        action="store_true",
        help="write a page with attention, every masking strategy and every simulator on some of the images",
    )
    parser.add_argument(
        "--images", type=int, default=None, help=f"how many images the gallery shows (default: {GALLERY_IMAGES})"
    )
    parser.add_argument(
        "--output", type=str, default=None, help="the gallery's file (default: runs/check/NAME/gallery.html)"
    )
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Look at the data; prints what was found. Exits with 2 at the first thing that train would refuse."""
    from flawmap.data.checks import check_leak, check_training_data, refuse_unwritable_names
    from flawmap.data.open_data import find_all_test_data, open_test_data, open_training_data, unread_beside
    from flawmap.data.pool import read_pool
    from flawmap.data.remarks import detail_lost, nearly_black

    recipe = recipe_of(arguments)
    output = _gallery_output(arguments)
    data = open_training_data(arguments.data, recipe.data)
    refuse_unwritable_names([data.name, *(image.key for image in data.images)])
    checked = check_training_data(data, recipe.calibration.held_out_fraction, arguments.skip_unreadable)
    pool = read_pool(recipe, checked.facts, arguments.skip_unreadable)
    tests = find_all_test_data(arguments.data, recipe.data)
    leak = check_leak(checked, tests, arguments.skip_unreadable, pool.facts)
    sizes = Counter((fact.width_px, fact.height_px) for fact in checked.facts)
    found: dict[str, Any] = {
        "data": checked.data.name,
        "layout": checked.data.layout,
        "good_images": len(checked.data.images),
        "identical_images": checked.num_duplicates,
        "skipped": [{"key": s.key, "reason": s.reason} for s in checked.data.skipped],
        "unread": unread_beside(checked.data),
        "sizes": [{"width_px": w, "height_px": h, "images": n} for (w, h), n in sizes.most_common(5)],
        "distinct_sizes": len(sizes),
        "detail_lost": detail_lost(checked.facts, recipe.seen_px),
        "nearly_black": nearly_black(checked.facts),
        "test_files_compared": leak.num_compared if leak else 0,
        "test": None,
    }
    if pool.images:
        found["pool"] = {
            "images": len(pool.images),
            "locations": pool.num_locations,
            "left_out": pool.num_left_out,
            "skipped": [{"key": s.key, "reason": s.reason} for s in pool.skipped],
            "words": pool.words,
        }
    if leak is not None:
        skipped = [{"key": s.key, "reason": s.reason} for s in leak.skipped]
        others = {image.key for image in data.images} | {s["key"] for s in skipped}
        samples = open_test_data(arguments.data, recipe.data).samples
        found["test"] = _test_facts(s for s in samples if s.key not in others) | {"skipped": skipped}
    if arguments.gallery:
        path = output or free_path(Path("runs") / "check" / checked.data.name / "gallery.html")
        _write_gallery(arguments, recipe, checked.data, path)
        found["gallery"] = str(path)
    print(json.dumps(found) if arguments.json else as_text(found))
    return 0


def _gallery_output(arguments: Namespace) -> Path | None:
    """Where the gallery was asked to go, None for the usual place; looked at before anything takes time.

    Raises:
        UserError: something is there already, or an option of the gallery is given without it.
    """
    for name in ("images", "output"):
        if getattr(arguments, name) is not None and not arguments.gallery:
            raise UserError(f"--{name} is an option of the gallery", f"--{name}", "give --gallery, too")
    if arguments.images is not None and arguments.images < 1:
        raise UserError(f"--images is {arguments.images}, must be 1 or more", "--images", "for example --images 6")
    if arguments.output is None:
        return None
    path = Path(arguments.output)
    if path.exists():
        kind = "a folder" if path.is_dir() else "there already, and nothing is overwritten"
        raise UserError(
            f"the gallery's file is {kind}", str(path), "--output with another name, such as new/gallery.html"
        )
    return path


def _write_gallery(arguments: Namespace, recipe: "Recipe", data: "TrainingData", path: Path) -> None:
    """The page, by the encoder that the recipe names; needs what ``flawmap[train]`` installs."""
    from flawmap.gallery import gallery_images
    from flawmap.report.gallery import GalleryPage, write_gallery
    from flawmap.vit.weights import load_encoder

    encoder, origin = load_encoder(recipe.model, seed=recipe.seed)
    images = gallery_images(data, encoder, recipe, arguments.images or GALLERY_IMAGES)
    ratio = recipe.pretrain.masking.drop_ratio
    facts = (
        ("command", arguments.command),
        ("pictures", f"{len(images)} of {len(data.images)} good images, evenly by name"),
        ("recipe", " ".join([arguments.recipe or "standard", *arguments.set])),
        ("encoder", f"{origin.source}; licence: {origin.licence}"),
        ("masking ratio", f"{ratio:g}"),
        ("blending of our simulator", recipe.simulation.blend),
        ("seed", str(recipe.seed)),
    )
    pretrain = recipe.pretrain
    masks = pretrain.masking.strategy if pretrain.enabled and pretrain.objective == "clusters" else None
    in_use = (masks, recipe.simulation.simulator)
    write_gallery(GalleryPage(data.name, ratio, in_use, facts), images, path)


def _test_facts(samples: "Iterable[LabelledImage]") -> dict[str, Any]:
    samples = list(samples)
    anomalous = [sample for sample in samples if sample.is_anomalous]
    return {
        "good": len(samples) - len(anomalous),
        "anomalous": len(anomalous),
        "with_truth": sum(sample.truth is not None for sample in anomalous),
        "kinds": dict(Counter(sample.kind for sample in anomalous)),
    }


def as_text(found: dict[str, Any]) -> str:
    """What was found, for people."""
    lines = [f'data       {found["data"]}  {found["good_images"]} good images, layout "{found["layout"]}"']
    largest = ", ".join(f"{s['width_px']}x{s['height_px']} ({s['images']})" for s in found["sizes"])
    more = (
        f", {found['distinct_sizes']} different sizes in all" if found["distinct_sizes"] > len(found["sizes"]) else ""
    )
    lines.append(f"sizes      {largest}{more}")
    if found["detail_lost"]:
        lines.append(f"detail     {found['detail_lost']}")
    if found["nearly_black"]:
        lines.append(f"dark       {found['nearly_black']}")
    lines.append(f"identical  {found['identical_images']} images repeat another one's content and are left out")
    test, pool = found["test"], found.get("pool")
    if pool:
        lines.append(f"pool       {pool['words']}")
    parts = [part for part in (found, pool, test) if part]
    if found["unread"]:
        lines.append(f"left out   {found['unread']}")
    for skipped in (one for part in parts for one in part["skipped"]):
        lines.append(f"left out   {skipped['key']}: {skipped['reason']}")
    if test:
        kinds = "".join(f", {kind} {count}" for kind, count in test["kinds"].items())
        lines.append(
            f"test       {test['good']} good, {test['anomalous']} anomalous{kinds}; "
            f"{test['with_truth']} have a mask or box"
        )
        lines.append(f"leak       none: {found['test_files_compared']} test files share no content with training")
    if "gallery" in found:
        lines.append(f"gallery    {found['gallery']}")
    return "\n".join(lines)
