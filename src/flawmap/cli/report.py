"""flawmap report RUN."""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """RUN."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train")


def run(arguments: Namespace) -> int:
    """Write report.html again."""
    from flawmap.report.html import write_report
    from flawmap.report.sheet import write_sheet
    from flawmap.training.run_folder import open_run

    folder = open_run(Path(arguments.run))
    write_sheet(folder.path)
    print(write_report(folder.path))
    return 0
