"""flawmap export RUN --to onnx."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.cli.arguments import add_json_argument
from flawmap.errors import UserError
from flawmap.runs.result_folders import free_path

if TYPE_CHECKING:
    from flawmap.deploy.parity import Parity

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".torchscript"}


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, the runtime, and the images to check with."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train, or a model folder")
    parser.add_argument("--to", choices=tuple(SUFFIXES), default="onnx", help="the runtime (default: onnx)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="of the weights; fp16 with openvino, int8 with onnx: what they cost is measured (default: fp32)",
    )
    parser.add_argument(
        "--output",
        type=str,
        default=None,
        help="the file; it must be new (default: RUN/NAME.onnx, with a number if taken)",
    )
    parser.add_argument(
        "--images",
        type=str,
        default=None,
        help="images to check the file with: a folder, or labelled data (default: those the run was trained from)",
    )
    parser.add_argument("--count", type=int, default=32, help="at most so many images are checked (default: 32)")
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Export; 1 when the file does not answer as the run does, and no file is left."""
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.deploy.check_images import given_images, images_of_run
    from flawmap.deploy.export import export_model
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.detect.pretrained import model_folder

    if arguments.count < 1:
        raise UserError(f"--count is {arguments.count}, must be at least 1", "--count", "--count 32")
    _refuse_taken(arguments)
    folder = model_folder(Path(arguments.run))
    detector = AnomalyDetector.from_pretrained(folder, "cpu")
    home = folder.parent if folder.name == "model" else folder
    name = home.resolve().name
    if arguments.images:
        images = given_images(arguments.images, arguments.count)
    else:
        images = images_of_run(home, arguments.count)
    path = Path(arguments.output) if arguments.output else _default_path(home, name, arguments)
    progress = ProgressLine("check")
    parity = export_model(detector, path, arguments.to, images, arguments.precision, name, progress)
    written = path.is_file() and (parity.is_good or arguments.precision != "fp32")
    if arguments.json:
        print(json.dumps(_as_json(parity, path if written else None, arguments)))
    else:
        print("\n".join(_as_lines(parity, path, written, arguments)))
    return 0 if written else 1


def _refuse_taken(arguments: Namespace) -> None:
    """Raises: UserError: ``--output`` names a file that is there, of the graph or of its weights."""
    if arguments.output is None:
        return
    path = Path(arguments.output)
    for taken in {path, path.with_suffix(".bin") if arguments.to == "openvino" else path}:
        if taken.exists():
            raise UserError("there is such a file already", str(taken), "remove it, or choose another --output")


def _default_path(home: Path, name: str, arguments: Namespace) -> Path:
    precision = "" if arguments.precision == "fp32" else f"-{arguments.precision}"
    return free_path(home / f"{name}{precision}{SUFFIXES[arguments.to]}")


def _as_json(parity: "Parity", path: Path | None, arguments: Namespace) -> dict:
    from dataclasses import asdict

    file = None if path is None else str(path)
    return {
        "file": file,
        "to": arguments.to,
        "precision": arguments.precision,
        **asdict(parity),
        "is_good": parity.is_good,
    }


def _as_lines(parity: "Parity", path: Path, written: bool, arguments: Namespace) -> list[str]:
    images = "1 image" if parity.n == 1 else f"{parity.n} images"
    changed = parity.n_verdicts_changed
    verdicts = {0: "no verdict", 1: "1 verdict"}.get(changed, f"{changed} verdicts")
    says = f"{images}: scores differ by at most {parity.max_score_difference:.2g}, {verdicts} changed"
    says += f", map by at most {parity.max_map_difference:.2g}"
    if parity.auroc:
        says += f"; AUROC {parity.auroc[0]:.4f} before, {parity.auroc[1]:.4f} in the file"
    if not written:
        return [f"parity     {says}", "not good   scores may differ by 0.001 and AUROC by 0.001; no file was written"]
    files = {path, path.with_suffix(".bin")}  # of OpenVINO, the weights
    megabytes = sum(one.stat().st_size for one in files if one.is_file()) / 1e6
    return [f"exported   {path}  ({arguments.to}, {arguments.precision}, {megabytes:.0f} MB)", f"parity     {says}"]
