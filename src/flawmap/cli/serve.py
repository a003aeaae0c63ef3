"""flawmap serve RUN|FILE."""

import os
import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from flawmap.cli.arguments import add_device_argument, add_threshold_arguments, amount, count, threshold_choice
from flawmap.errors import UserError


def add_arguments(parser: ArgumentParser) -> None:
    """The model, where to listen, and limits."""
    parser.add_argument("model", help="a run or model folder, or a file of flawmap export")
    add_threshold_arguments(parser)
    parser.add_argument("--port", type=int, default=8321, help="default: 8321")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="default: 127.0.0.1, this machine only; any other needs a token in FLAWMAP_TOKEN",
    )
    parser.add_argument("--reviews", default="reviews.csv", help="file for reviews (default: reviews.csv)")
    parser.add_argument("--max-megabytes", type=amount, default=64.0, help="of one upload (default: 64)")
    parser.add_argument("--max-megapixels", type=amount, default=50.0, help="of one image (default: 50)")
    parser.add_argument("--queue", type=count, default=16, help="simultaneous uploads; more get 503 (default: 16)")
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Serve until interrupted; requests in progress are then finished."""
    from flawmap.deploy.opened_model import open_model
    from flawmap.deploy.server import TOKEN_VARIABLE, ServerSettings, refuse_address, serve
    from flawmap.detect.model_facts import NO_CHECKSUM
    from flawmap.runs.threshold_names import whose

    host, port = arguments.host, arguments.port
    if not 0 < port < 65536:
        raise UserError(f"--port is {port}, must be between 1 and 65535", "--port", "--port 8321")
    settings = ServerSettings(
        reviews=Path(arguments.reviews),
        host=host,
        token=os.environ.get(TOKEN_VARIABLE, ""),
        max_bytes=int(arguments.max_megabytes * 1e6),
        max_pixels=int(arguments.max_megapixels * 1e6),
        queue_size=arguments.queue,
    )
    refuse_address(host, port, settings.token)
    choice = threshold_choice(arguments)
    open_again = partial(open_model, arguments.model, arguments.device, choice=choice)
    model = open_again()
    if model.facts.self_test is None:
        print(f"note       {NO_CHECKSUM}", file=sys.stderr)
    if model.facts.calibration is None:
        note = "no threshold yet, so nothing is called anomalous: flawmap calibrate sets one"
        print(f"note       {note}", file=sys.stderr)
    else:
        print(f"threshold  {model.facts.threshold_words[0]}", file=sys.stderr)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    of = f" for {whose(model.facts.camera)}" if model.facts.camera else ""
    print(f"serving    {model.facts.name}{of} on {address}  (stop with Ctrl-C)", file=sys.stderr)
    serve(model, settings, port, Path(arguments.model), choice, open_again)
    return 0
