"""flawmap report RUN."""

import json
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from flawmap.cli.arguments import add_device_argument, add_json_argument

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def add_arguments(parser: ArgumentParser) -> None:
    """RUN and options."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train")
    parser.add_argument(
        "--figures",
        action="store_true",
        help="also write RUN/figures/*.svg; loads the model for its attention and for the t-SNE of its features",
    )
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Write report.html again, and the figures where they are asked for."""
    from flawmap.report.html import write_report
    from flawmap.report.sheet import write_sheet
    from flawmap.runs.run_folder import open_run

    folder = open_run(Path(arguments.run)).path
    answer: dict[str, object] = {}
    lines: list[str] = []
    if arguments.figures:
        written, missing = write_all_figures(folder, arguments.device)
        answer |= {"figures": [str(path) for path in written], "missing": missing}
        lines += [*map(str, written), *(f"no {name}: {reason}" for name, reason in missing.items())]
    write_sheet(folder)
    report = write_report(folder)
    print(json.dumps({"report": str(report)} | answer) if arguments.json else "\n".join([str(report), *lines]))
    return 0


def write_all_figures(run: Path, device: DeviceName) -> tuple[tuple[Path, ...], dict[str, str]]:
    """The figures, with attention and features from the run's model where it can be loaded.

    Returns:
        the files written, and why each of the others was not.
    """
    from flawmap.report.figures import write_figures

    features, why = _from_model(run, device)
    written = write_figures(run, features, why)
    return written.paths, dict(written.missing)


def _from_model(run: Path, device: DeviceName) -> tuple[Any, str]:
    """Features of the test images, or None and why not; the attention is written on the way."""
    from flawmap.report.run_files import read_run

    files = read_run(run)
    if not files.images:
        return None, "the run has not been evaluated"
    if find_spec("torch") is None:
        return None, "needs the model: pip install 'flawmap[train]'"
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.evaluate.encoder_pictures import features_of, write_attention

    detector = AnomalyDetector.from_pretrained(run, device)
    write_attention(run, detector)
    features = features_of(detector, files.images, ProgressLine("features"))
    return features, "the test pictures are gone, or the detector has no encoder"
