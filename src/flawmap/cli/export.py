"""flawmap export RUN --to onnx."""

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.cli.arguments import add_json_argument, count
from flawmap.errors import UserError

if TYPE_CHECKING:
    from flawmap.deploy.parity import Parity


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, the runtime, and the images to check with."""
    parser.add_argument("run", help="a run folder of flawmap train, or a model folder")
    parser.add_argument(
        "--to", choices=("onnx", "openvino", "torchscript"), default="onnx", help="the runtime (default: onnx)"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        help="of the weights: the one the run was fitted in (default), or fp16, whose loss is measured",
    )
    parser.add_argument("--output", help="the file; it must be new (default: RUN/NAME.onnx, with a number if taken)")
    parser.add_argument(
        "--images",
        help="images to check the file with: a folder, or labelled data (default: those the run was trained from)",
    )
    parser.add_argument("--count", type=count, default=32, help="the most images to check (default: 32)")
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Export; returns 1 and leaves no file when the file does not answer as the run does."""
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.deploy.export import export_run
    from flawmap.storage.address import is_address
    from flawmap.storage.local_copy import path_of_model
    from flawmap.storage.upload import Destination

    if is_address(arguments.run) and not arguments.output:
        raise UserError("a run in a store is not changed", arguments.run, "name the file with --output")
    destination = Destination.of(arguments.output) if arguments.output else None
    export = export_run(
        path_of_model(arguments.run),
        arguments.to,
        arguments.precision,
        destination.local if destination else None,
        arguments.images,
        arguments.count,
        ProgressLine("check"),
    )
    path, parity = export.path, export.parity
    if arguments.json:
        head = {"file": str(path) if path.is_file() else None, "to": export.to, "precision": export.precision}
        print(json.dumps(head | asdict(parity) | {"is_good": parity.is_good}))
    else:
        print("\n".join(_as_lines(path, parity, f"{export.to}, {export.precision}")))
    if destination and path.is_file() and (uploaded := destination.upload(path)):
        print(f"uploaded   {uploaded}", file=sys.stderr)
    return 0 if path.is_file() else 1


def _as_lines(path: Path, parity: "Parity", form: str) -> list[str]:
    images = "1 image" if parity.n == 1 else f"{parity.n} images"
    changed = {0: "no verdict", 1: "1 verdict"}.get(parity.n_verdicts_changed, f"{parity.n_verdicts_changed} verdicts")
    differences = (
        f"parity     {images}: scores differ by at most {parity.max_score_difference:.2g}, {changed} changed, "
        f"map by at most {parity.max_map_difference:.2g}"
    )
    if parity.auroc:
        differences += f"; AUROC {parity.auroc[0]:.4f} before, {parity.auroc[1]:.4f} in the file"
    if not path.is_file():
        reason = "scores and AUROC may differ by at most 0.001" if parity.is_finite else "a score is not finite"
        return [differences, f"not good   {reason}; no file was written"]
    files = {path, path.with_suffix(".bin")}  # OpenVINO's weights
    megabytes = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
    return [f"exported   {path}  ({form}, {megabytes:.0f} MB)", differences]
