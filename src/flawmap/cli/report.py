"""flawmap report RUN."""

import json
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.advice import install
from flawmap.cli.arguments import add_device_argument, add_json_argument

if TYPE_CHECKING:
    from flawmap.engine.compute import DeviceName
    from flawmap.report.figures import Features


def add_arguments(parser: ArgumentParser) -> None:
    """RUN and options."""
    parser.add_argument("run", help="a run folder of flawmap train")
    parser.add_argument(
        "--figures",
        action="store_true",
        help="also write RUN/figures/*.svg; loads the model for its attention and for the t-SNE of its features",
    )
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Write report.html again, and the figures if they are asked for."""
    from flawmap.report.figures import write_figures
    from flawmap.report.html import write_report
    from flawmap.runs.run_folder import open_run

    folder = open_run(Path(arguments.run)).path
    answer: dict[str, object] = {}
    lines: list[str] = []
    if arguments.figures:
        features, why_none = _features(folder, arguments.device)
        figures = write_figures(folder, features or why_none)
        written = [str(figure) for figure in figures.values() if isinstance(figure, Path)]
        missing = {name: reason for name, reason in figures.items() if isinstance(reason, str)}
        answer |= {"figures": written, "missing": missing}
        lines += [*written, *(f"no {name}: {reason}" for name, reason in missing.items())]
    report = write_report(folder)
    print(json.dumps({"report": str(report)} | answer) if arguments.json else "\n".join([str(report), *lines]))
    return 0


def _features(run: Path, device: "DeviceName") -> tuple["Features | None", str]:
    """Features of the test images, or None and why not; the attention is written with them."""
    if find_spec("torch") is None:
        return None, f"needs the model: {install('train')}"
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.evaluate.report_inputs import features_of_run

    return features_of_run(run, device, ProgressLine("features"))
