"""One studio, served on this machine until it is interrupted."""

import html
import os
import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from flawmap_studio.app import create_app
from flawmap_studio.guard import Entrance
from flawmap_studio.studio import Studio

OPENER = "open.html"
HOST = "127.0.0.1"  # never another: the studio writes files and starts programs


def serve(folder: Path, port: int, opens_browser: bool, say: Callable[[str], None]) -> None:
    """Serve a folder.

    Args:
        folder: exists.
        port: to listen on.
        opens_browser: show the first page in the user's browser.
        say: prints one line.

    Raises:
        UserError: another studio works in the folder, or its state is damaged.
    """
    with Studio(folder) as studio, socket.create_server((HOST, port)) as listening:  # a browser may come at once
        entrance = Entrance(port)
        address = entrance.address(HOST)
        say(f"studio     {studio.place.root}")
        say(f"address    {address}  (stop with Ctrl-C; the address is valid until then)")
        if opens_browser:
            show(studio.place.own, address)
        app = create_app(studio, entrance)
        config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=5)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def show(folder: Path, address: str) -> None:
    """Open an address in the user's browser, through a file that only the user can read.

    Everybody on the machine sees the arguments of a browser, and could enter with the token in them.
    """
    file = folder / OPENER
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as writing:
        writing.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(address)}">')
    webbrowser.open(file.as_uri())
