"""flawmap serve RUN|FILE."""

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from flawmap.cli.arguments import add_device_argument
from flawmap.errors import UserError


def add_arguments(parser: ArgumentParser) -> None:
    """The model, where to listen, and limits."""
    parser.add_argument("model", type=str, help="a run or model folder, or a file of flawmap export")
    parser.add_argument("--port", type=int, default=8321, help="default: 8321")
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="default: 127.0.0.1, this machine only; any other needs a token in FLAWMAP_TOKEN",
    )
    parser.add_argument("--reviews", type=str, default="reviews.csv", help="file for reviews (default: reviews.csv)")
    parser.add_argument("--max-megabytes", type=float, default=64.0, help="of one upload (default: 64)")
    parser.add_argument("--max-megapixels", type=float, default=50.0, help="of one image (default: 50)")
    parser.add_argument("--queue", type=int, default=16, help="simultaneous uploads; more get 503 (default: 16)")
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Serve until interrupted; requests in progress are then finished."""
    _check_numbers(arguments)
    try:
        from flawmap.deploy.server import TOKEN_VARIABLE, ServerSettings, refuse_address, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flawmap"):
            raise
        raise UserError(f"the package {error.name} is not installed", "", 'pip install "flawmap[serve]"') from error
    from flawmap.deploy.opened_model import open_model

    host, port = arguments.host, arguments.port
    settings = ServerSettings(
        reviews=Path(arguments.reviews),
        host=host,
        token=os.environ.get(TOKEN_VARIABLE, ""),
        max_bytes=int(arguments.max_megabytes * 1e6),
        max_pixels=int(arguments.max_megapixels * 1e6),
        queue_size=arguments.queue,
    )
    refuse_address(host, port, settings.token)
    model = open_model(arguments.model, arguments.device)
    if model.facts.calibration is None:
        note = "no threshold yet, so nothing is called anomalous: flawmap calibrate sets one"
        print(f"note       {note}", file=sys.stderr)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"serving    {model.facts.name} on {address}  (stop with Ctrl-C)", file=sys.stderr)
    serve(model, settings, port)
    return 0


def _check_numbers(arguments: Namespace) -> None:
    if not 0 < arguments.port < 65536:
        raise UserError(f"--port is {arguments.port}, must be between 1 and 65535", "--port", "--port 8321")
    for name in ("max_megabytes", "max_megapixels", "queue"):
        value = getattr(arguments, name)
        if not 0 < value < float("inf"):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option} is {value:g}, must be a number above 0", option, f"leave {option} out")
