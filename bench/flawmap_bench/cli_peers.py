"""flawmap benchmark peers DATA: its own arguments, and the run."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from flawmap.errors import UserError

SMALLEST_SIZE_PX, LARGEST_SIZE_PX = 32, 1024


def add_peers_arguments(parser: ArgumentParser) -> None:
    """What is said of other methods beside ``--seeds``, ``--set`` and ``--output``."""
    parser.add_argument(
        "--methods",
        type=str,
        default=None,
        help="peers: padim,patchcore,standard,... (default: all of the paper's, four of today's, standard, quick); "
        "paper: which other methods of table 1 or 2 to run, too (default: none)",
    )
    parser.add_argument(
        "--minutes-per-method",
        type=float,
        default=5.0,
        help="peers, paper: of training, for each of them (default: 5)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        default=224,
        help="peers, paper: in px, for all methods but flawmap's recipes, which have their own (default: 224)",
    )


def run_peers_suite(arguments: Namespace, location: str, seeds: tuple[int, ...]) -> Path:
    """Run what is missing; the path of the scoreboard.

    Raises:
        UserError: no such method, or a number out of range.
    """
    from flawmap_bench.methods import DEFAULT_METHODS
    from flawmap_bench.peers_board import PeersOrder, run_peers

    refuse_out_of_range(arguments)
    names = DEFAULT_METHODS if arguments.methods is None else method_names(arguments.methods)
    order = PeersOrder(
        location=location,
        methods=names,
        seeds=seeds,
        folder=Path(arguments.output or "runs/peers"),
        image_size_px=arguments.image_size,
        minutes_per_method=arguments.minutes_per_method,
        overrides=tuple(arguments.set),
        device=arguments.device,
    )
    return run_peers(order, arguments.command)


def method_names(text: str) -> tuple[str, ...]:
    """ "padim, draem" as names, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",")))


def refuse_out_of_range(arguments: Namespace) -> None:
    """Raises: UserError: the methods' image size or budget is out of range."""
    if not 0 < arguments.minutes_per_method < float("inf"):
        raise UserError(
            f"--minutes-per-method is {arguments.minutes_per_method:g}, must be above 0",
            "--minutes-per-method",
            "for example --minutes-per-method 5",
        )
    if not SMALLEST_SIZE_PX <= arguments.image_size <= LARGEST_SIZE_PX:
        raise UserError(
            f"--image-size is {arguments.image_size}, must be between {SMALLEST_SIZE_PX} and {LARGEST_SIZE_PX}",
            "--image-size",
            "for example --image-size 224",
        )
