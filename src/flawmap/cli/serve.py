"""flawmap serve RUN|FILE."""

import errno
import os
import socket
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from flawmap.cli.arguments import add_device_argument
from flawmap.errors import UserError

TOKEN_VARIABLE = "FLAWMAP_TOKEN"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: ArgumentParser) -> None:
    """The model, where to listen, and limits."""
    parser.add_argument("model", type=str, help="a run or model folder, or a file of flawmap export")
    parser.add_argument("--port", type=int, default=8321, help="default: 8321")
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help=f"default: 127.0.0.1, this machine only; any other wants a token in {TOKEN_VARIABLE}",
    )
    parser.add_argument("--reviews", type=str, default="reviews.csv", help="where verdicts go (default: reviews.csv)")
    parser.add_argument("--max-megabytes", type=float, default=64.0, help="of one upload (default: 64)")
    parser.add_argument("--max-megapixels", type=float, default=50.0, help="of one image (default: 50)")
    parser.add_argument("--queue", type=int, default=16, help="uploads at a time; more get 503 (default: 16)")
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Serve until interrupted; what was being answered then is finished."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    _check(arguments, token)
    _refuse_address_that_is_not_free(arguments.host, arguments.port)
    try:
        import uvicorn

        from flawmap.deploy.server import ServerSettings, create_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flawmap"):
            raise
        raise UserError(f"the package {error.name} is not installed", "", 'pip install "flawmap[serve]"') from error
    from flawmap.deploy.opened_model import open_model
    from flawmap.report.colour import colour_table

    model = open_model(arguments.model, arguments.device)
    if model.facts.calibration is None:
        print(
            "note       no threshold yet, so nothing is called anomalous: flawmap calibrate sets one", file=sys.stderr
        )
    settings = ServerSettings(
        reviews=Path(arguments.reviews),
        host=arguments.host,
        token=token,
        max_bytes=int(arguments.max_megabytes * 1e6),
        max_pixels=int(arguments.max_megapixels * 1e6),
        queue_size=arguments.queue,
    )
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colour_table().tolist()]
    app = create_app(model, settings, colours)
    shown = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"serving    {model.facts.name} on http://{shown}:{arguments.port}  (end with Ctrl-C)", file=sys.stderr)
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=30,
    )
    return 0


def _refuse_address_that_is_not_free(host: str, port: int) -> None:
    """Before the model is loaded. What takes the port in the next seconds is told by uvicorn."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
            probe.bind(address)
    except PermissionError as error:
        raise UserError(f"port {port} is for the machine's administrator", "--port", "--port 8321") from error
    except UnicodeError as error:  # a name such as "a..b" cannot even be asked for
        raise UserError(f"{host!r} is no name of a machine", "--host", "leave --host out") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = f"--port {port + 1 if port < 65535 else 8321}, or end what listens there"
            raise UserError(f"port {port} of {host} is taken", "--port", remedy) from error
        raise UserError(f"this machine has no address {host}", "--host", "leave --host out") from error


def _check(arguments: Namespace, token: str) -> None:
    if arguments.host not in LOOPBACK and not token:
        raise UserError(
            f"--host {arguments.host} lets other machines in, and there is no token",
            "--host",
            f"{TOKEN_VARIABLE}=SECRET flawmap serve ..., or leave --host out",
        )
    if not 0 < arguments.port < 65536:
        raise UserError(f"--port is {arguments.port}, must be between 1 and 65535", "--port", "--port 8321")
    for name in ("max_megabytes", "max_megapixels", "queue"):
        value = getattr(arguments, name)
        if not 0 < value < float("inf"):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option} is {value:g}, must be a number above 0", option, f"leave {option} out")
