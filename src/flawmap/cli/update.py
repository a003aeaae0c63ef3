"""flawmap update RUN GOOD_IMAGES, with --reviews for reviewed false alarms, and --undo."""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.advice import command
from flawmap.cli.arguments import add_data_arguments, add_device_argument
from flawmap.errors import UserError

if TYPE_CHECKING:
    from flawmap.runs.updates import Standing
    from flawmap.update import Updated


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, the images, and what is to be done with them."""
    parser.add_argument("run", help="a run folder of flawmap train")
    parser.add_argument(
        "images",
        nargs="*",
        help="a random sample of new good images; with --reviews, the folders in which the reviewed images are",
    )
    parser.add_argument(
        "--reviews",
        metavar="FILE",
        help="the reviews.csv of flawmap serve: learn from the images that people called good; they do not count for "
        "the threshold",
    )
    parser.add_argument(
        "--head", action="store_true", help="train the head again, too; the earlier images must still be in place"
    )
    parser.add_argument("--product", metavar="NAME", help="all these images show this product of a model of several")
    parser.add_argument("--camera", metavar="NAME", help="this camera took all these images")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and keep nothing")
    parser.add_argument("--undo", action="store_true", help="return to the previous version; repeat to go further back")
    add_data_arguments(parser)
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Update or return to the version before; prints what changed."""
    from flawmap.update import UpdateOrder, undo_update, update_run

    path = Path(arguments.run)
    _refuse_contradictions(arguments)
    if arguments.undo:
        undone, current = undo_update(path)
        facts = {"run": str(path), "undone": undone, "version": current}
        now = current or "that of the training"
        print(json.dumps(facts) if arguments.json else f"undone     {undone}; the model is again {now}")
        return 0
    order = UpdateOrder(
        arguments.images,
        Path(arguments.reviews) if arguments.reviews else None,
        arguments.skip_unreadable,
        arguments.strict,
        arguments.device,
        arguments.head,
        arguments.dry_run,
        arguments.command,
        arguments.product,
        arguments.camera,
    )
    updated = update_run(path, order)
    print(json.dumps(_as_json(updated, path)) if arguments.json else "\n".join(_as_lines(updated, path)))
    return 0


def _refuse_contradictions(arguments: Namespace) -> None:
    place = "flawmap update"
    if arguments.undo:
        given = {"GOOD_IMAGES": arguments.images, "--reviews": arguments.reviews, "--dry-run": arguments.dry_run}
        given["--head"] = arguments.head
        if also := [name for name, value in given.items() if value]:
            raise UserError(f"--undo goes without {' and '.join(also)}", place, "leave one of them out")
    elif not arguments.images and arguments.reviews:
        problem = "reviews name images, and do not hold them: the folders in which the image files are, are missing"
        raise UserError(problem, place, "flawmap update RUN FOLDER --reviews reviews.csv")
    elif not arguments.images:
        raise UserError("no good images are given", place, "flawmap update RUN GOOD_IMAGES, or --undo")


def _as_json(updated: "Updated", path: Path) -> dict[str, object]:
    return {
        "run": str(path),
        "version": updated.version,
        **asdict(updated.record),
        "images": [asdict(image) for image in updated.images],
    }


def _as_lines(updated: "Updated", path: Path) -> list[str]:
    record = updated.record
    lines = [
        f"images     {record.n_new} new, of {record.n_images} that the model has learned from",
        f"           {'before':>38}{'after':>16}",
        _line("threshold", *(_number(side.threshold) for side in (record.before, record.after))),
        _line("good images above it", *(_alarms(side) for side in (record.before, record.after))),
        _line("new images above it", *(_new_alarms(side) for side in (record.before, record.after))),
        "           after: good images are scored by fits that have not seen them",
    ]
    if record.reviews is not None:
        lines.append("           reviewed images do not count for the threshold")
    if record.dropped:
        from flawmap.runs.threshold_names import SIGN, options_of, whose
        from flawmap.runs.updates import THE_DEFAULT

        dropped = ", ".join(whose(name) if SIGN in name else name for name in record.dropped)
        lines.append(
            f"note       thresholds set on fresh images belong to the previous version: {dropped}; to set them again:"
        )
        for name in record.dropped:
            of_camera = () if name == THE_DEFAULT else options_of(name)
            lines.append(f"           {command('flawmap', 'calibrate', path, 'GOOD_IMAGES', *of_camera)}")
    if updated.version is None:
        lines.append("version    none: --dry-run keeps nothing")
        return lines
    lines.append(f"kept       {record.kept_bytes / 1e6:,.0f} MB of tokens for the next update")
    back = command("flawmap", "update", path, "--undo")
    lines.append(f"version    {updated.version} is current; to return to the previous one: {back}")
    return lines


def _line(name: str, before: str, after: str) -> str:
    return f"           {name:<22}{before:>16}{after:>16}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _alarms(side: "Standing") -> str:
    return "-" if side.threshold is None else f"{side.n_alarms} of {side.n_good}"


def _new_alarms(side: "Standing") -> str:
    return "-" if side.threshold is None else f"{side.n_new_alarms} of {side.n_new}"
