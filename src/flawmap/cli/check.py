"""flawmap check DATA."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.cli.arguments import add_data_arguments, add_json_argument, add_recipe_arguments, count, recipe_of
from flawmap.errors import UserError
from flawmap.runs.result_folders import free_path

if TYPE_CHECKING:
    from flawmap.check import DataReport

GALLERY_IMAGES = 6


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    parser.add_argument("data", help="folder of good images, MVTec AD folder, manifest.csv, or elpv")
    add_recipe_arguments(parser)
    add_data_arguments(parser)
    parser.add_argument(
        "--gallery",
        action="store_true",
        help="write a page with attention, every masking strategy and every simulator on some of the images",
    )
    parser.add_argument("--images", type=count, help=f"number of images in the gallery (default: {GALLERY_IMAGES})")
    parser.add_argument("--output", help="the gallery's file (default: runs/check/NAME/gallery.html)")
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Check the data and print what was found. Exits with 2 at the first thing that train would refuse."""
    from flawmap.check import read_sound_data, report_on

    recipe = recipe_of(arguments)
    output = _gallery_output(arguments)
    sound = read_sound_data(arguments.data, recipe, arguments.skip_unreadable)
    report = report_on(sound, arguments.data, recipe)
    facts, lines = asdict(report), list(_lines(report))
    if arguments.gallery:
        from flawmap.gallery import write_gallery_page

        path = output or free_path(Path("runs") / "check" / report.data / "gallery.html")
        chosen = " ".join([arguments.recipe or "standard", *arguments.set])
        source = (("command", arguments.command), ("recipe", chosen))
        write_gallery_page(sound.checked.data, recipe, arguments.images or GALLERY_IMAGES, path, source)
        facts["gallery"] = str(path)
        lines.append(f"gallery    {path}")
    print(json.dumps(facts) if arguments.json else "\n".join(lines))
    return 0


def _gallery_output(arguments: Namespace) -> Path | None:
    """The gallery's file if one was named; checked before anything takes time.

    Raises:
        UserError: the file exists already, or an option of the gallery is given without it.
    """
    for name in ("images", "output"):
        if getattr(arguments, name) is not None and not arguments.gallery:
            raise UserError(f"--{name} is an option of the gallery", f"--{name}", "add --gallery")
    if arguments.output is None:
        return None
    path = Path(arguments.output)
    if path.exists():
        kind = "is a folder" if path.is_dir() else "exists already, and is not overwritten"
        raise UserError(f"the gallery's file {kind}", str(path), "--output with another name, such as new/gallery.html")
    return path


def _lines(report: "DataReport") -> Iterator[str]:
    """The report for people."""
    yield f'data       {report.data}  {report.good_images} good images, layout "{report.layout}"'
    sizes = ", ".join(f"{size} ({count})" for size, count in report.sizes.items())
    more = f", {report.distinct_sizes} different sizes in total" if report.distinct_sizes > len(report.sizes) else ""
    yield f"sizes      {sizes}{more}"
    if report.detail_lost:
        yield f"detail     {report.detail_lost}"
    if report.nearly_black:
        yield f"dark       {report.nearly_black}"
    yield f"identical  {report.identical_images} images repeat the content of another one and are left out"
    if report.pool:
        yield f"pool       {report.pool}"
    if report.unread:
        yield f"left out   {report.unread}"
    for file in report.skipped:
        yield f"left out   {file.key}: {file.reason}"
    if (test := report.test) is not None:
        kinds = "".join(f", {kind} {count}" for kind, count in test.kinds.items())
        yield f"test       {test.good} good, {test.anomalous} anomalous{kinds}; {test.with_truth} have a mask or boxes"
        yield f"leak       none: {report.test_files_compared} test files share no content with training"
