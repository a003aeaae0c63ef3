"""flawmap manifest DATA."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from flawmap.cli.arguments import add_json_argument
from flawmap.errors import UserError


def add_arguments(parser: ArgumentParser) -> None:
    """DATA and its options."""
    parser.add_argument("data", help="folder with images and annotations (COCO, YOLO, Pascal VOC, labelme), or a file")
    parser.add_argument("--output", required=True, help="the manifest, such as manifest.csv; nothing is overwritten")
    parser.add_argument(
        "--unannotated",
        choices=("good",),
        help="good: images without annotations are good ones (default: they are left out)",
    )
    parser.add_argument("--masks", help="new folder for masks, which keep outlines (default: boxes in the manifest)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="data.group_by=C",
        help="what must not be split between training and test, such as {group}_* for patients (default: nothing)",
    )
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Write the manifest, and print what is in it."""
    from flawmap.advice import command
    from flawmap.data.annotations.to_manifest import write_manifest_of
    from flawmap.data.checks import MIN_IMAGES

    output, masks = Path(arguments.output), Path(arguments.masks) if arguments.masks else None
    group_by = _group_by(arguments.set)
    report = write_manifest_of(Path(arguments.data), output, arguments.unannotated == "good", masks, group_by)
    if arguments.json:
        print(json.dumps({"manifest": str(output)} | asdict(report)))
        return 0
    files = "1 file" if report.num_files == 1 else f"{report.num_files} files"
    lines = [("found", f"{report.format} in {files}")]
    if report.kinds:
        lines.append(("defects", ", ".join(f"{kind} {count}" for kind, count in report.kinds.items())))
    if report.groups:
        lines.append(("groups", report.groups))
    if report.left_out:
        images = "1 image" if report.left_out == 1 else f"{report.left_out} images"
        lines.append(("left out", f"{images} without annotations; if they are good: --unannotated good"))
    lines += [("remark", remark) for remark in report.remarks]
    counts = f"{report.good_train} good to train; {report.good_test} good and {report.anomalous} anomalous to test"
    lines.append(("manifest", f"{output}  {counts}"))
    if report.good_train >= MIN_IMAGES:
        lines.append(("next", command("flawmap", "check", output)))
    elif report.good_train:
        lines.append(("remark", f"{MIN_IMAGES} good images or more are better"))
        lines.append(("next", command("flawmap", "check", output)))
    else:
        lines.append(("remark", "training needs at least 1 good image"))
    print("\n".join(f"{label:<10} {text}" for label, text in lines))
    return 0


def _group_by(overrides: Sequence[str]) -> str | None:
    """Raises: UserError: a setting that does not concern the manifest, or a value that it cannot have."""
    from flawmap.data.groups import SETTING
    from flawmap.recipe.files import with_data_overrides
    from flawmap.recipe.settings import DataSettings

    for override in overrides:
        if (key := override.partition("=")[0].strip()) != SETTING:
            raise UserError(f"{key} has no effect on a manifest", f"--set {override}", f"only {SETTING} has")
    return with_data_overrides(DataSettings(), overrides).group_by
