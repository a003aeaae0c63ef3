"""flawmap studio [FOLDER]. The command line loads this file for its help, so it imports nothing heavy."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from flawmap.errors import UserError

MEANING = "collect images, train, test, review and update in the browser"


def add_arguments(parser: ArgumentParser) -> None:
    """The folder, and where to listen."""
    parser.add_argument(
        "folder", nargs="?", default=".", help="where images, models and results are kept (default: this folder)"
    )
    parser.add_argument("--port", type=int, default=8322, help="of this machine, 127.0.0.1 (default: 8322)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")


def run(arguments: Namespace) -> int:
    """Serve until interrupted. A job that runs goes on, and the next start shows it."""
    from flawmap.deploy.server import refuse_address
    from flawmap_studio.serve import HOST, serve

    if not 0 < arguments.port < 65536:
        raise UserError(f"--port is {arguments.port}, must be between 1 and 65535", "--port", "--port 8322")
    folder = Path(arguments.folder)
    if not folder.is_dir():
        kind = "this is a file" if folder.exists() else "there is no such folder"
        raise UserError(kind, str(folder), "name an existing folder: mkdir parts, then flawmap studio parts")
    refuse_address(HOST, arguments.port, "")
    serve(folder, arguments.port, opens_browser=not arguments.no_browser, say=_say)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
