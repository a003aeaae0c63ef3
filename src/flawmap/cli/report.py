"""flawmap report RUN."""

import json
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_json_argument


def add_arguments(parser: ArgumentParser) -> None:
    """RUN."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train")
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Write report.html again."""
    from flawmap.report.html import write_report
    from flawmap.report.sheet import write_sheet
    from flawmap.training.run_folder import open_run

    folder = open_run(Path(arguments.run))
    write_sheet(folder.path)
    report = write_report(folder.path)
    print(json.dumps({"report": str(report)}) if arguments.json else report)
    return 0
