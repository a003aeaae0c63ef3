"""flawmap check DATA."""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from flawmap.advice import command
from flawmap.cli.arguments import add_data_argument, add_data_arguments, add_recipe_arguments, count, recipe_of
from flawmap.errors import UserError
from flawmap.runs.file_names import possible_name
from flawmap.runs.result_folders import free_path

GALLERY_IMAGES = 6


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    add_data_argument(parser)
    add_recipe_arguments(parser)
    add_data_arguments(parser)
    parser.add_argument(
        "--gallery",
        action="store_true",
        help="write a page with attention, every masking strategy and every simulator on some of the images",
    )
    parser.add_argument("--images", type=count, help=f"number of images in the gallery (default: {GALLERY_IMAGES})")
    parser.add_argument("--output", help="the gallery's file (default: runs/check/NAME/gallery.html)")


def run(arguments: Namespace) -> int:
    """Check the data and print what was found. Exits with 2 at the first thing that train would refuse."""
    from flawmap.check import (
        proposed_rois,
        read_sound_data,
        remarks,
        report_on,
        report_on_tests,
        write_proposed_rois,
    )
    from flawmap.data.left_out import as_records, counted

    recipe = recipe_of(arguments)
    output = _gallery_output(arguments)
    sound = read_sound_data(arguments.data, recipe, arguments.skip_unreadable, arguments.strict)
    report, test = report_on(sound, recipe), report_on_tests(sound, arguments.data, recipe)
    facts = asdict(report) | {"test": asdict(test) if test else None}
    facts |= {"root": str(report.root), "left_out": as_records(report.left_out), "proposed_roi": None}
    lines = [f"{label:<10} {text}" for label, text in remarks(report)]
    if test is not None:
        group = " and no group" if report.groups else ""
        kinds = "".join(f", {kind} {number}" for kind, number in test.kinds.items())
        lines += [
            f"test       {test.good} good, {test.anomalous} anomalous{kinds}; {test.with_truth} have a mask or boxes",
            f"leak       none: {report.test_files_compared} test files share no content{group} with training",
        ]
    if (proposal := proposed_rois(sound, recipe)) is not None:
        written = write_proposed_rois(proposal, Path("runs") / "check" / possible_name(report.data))
        facts["proposed_roi"] = str(written)
        lines.append(f"proposal   a region of interest without {proposal.words}: {written}")
        recipe_words = ["--recipe", arguments.recipe] if arguments.recipe else []
        look = command("flawmap", "check", *arguments.data, *recipe_words, "--roi", written, "--gallery")
        lines.append(f"           nothing uses it unless you say so; to look at it: {look}")
    if arguments.gallery:
        from flawmap.gallery import write_gallery_page

        path = output or free_path(Path("runs") / "check" / possible_name(report.data) / "gallery.html")
        chosen = " ".join([arguments.recipe or "standard", *arguments.set])
        source = (("command", arguments.command), ("recipe", chosen))
        write_gallery_page(sound.checked.data, recipe, arguments.images or GALLERY_IMAGES, path, source)
        facts["gallery"] = str(path)
        lines.append(f"gallery    {path}")
    if report.passed_over:
        lines.append(f"total      {report.good_images} good images, {counted(report.passed_over)}")
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
