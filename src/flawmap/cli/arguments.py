"""Parsing, and the arguments that several verbs share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from flawmap.cli.verbs import VERBS
from flawmap.errors import UserError
from flawmap.recipe import Recipe
from flawmap.recipe_files import load_recipe


def parse(verb: str, add_arguments: Callable[[ArgumentParser], None], words: Sequence[str]) -> Namespace:
    """Parse the words after the verb; mistakes become a :class:`UserError`."""
    parser = ArgumentParser(
        prog=f"flawmap {verb}", description=VERBS[verb], exit_on_error=False, default_env=False, allow_abbrev=False
    )
    add_arguments(parser)
    try:
        return parser.parse_args(list(words))
    except ArgumentError as error:
        raise UserError(str(error).strip(), f"flawmap {verb}", f"flawmap {verb} --help") from error


def add_recipe_arguments(parser: ArgumentParser) -> None:
    """``--recipe`` and ``--set``."""
    parser.add_argument(
        "--recipe", type=str, default=None, help="a preset (quick, standard, paper, ...) or a YAML file"
    )
    parser.add_argument(
        "--set", type=str, action="append", default=[], metavar="A.B=C", help="change one setting; may be repeated"
    )


def add_data_arguments(parser: ArgumentParser) -> None:
    """``--skip-unreadable``."""
    parser.add_argument("--skip-unreadable", action="store_true", help="leave files out that cannot be decoded")


def add_device_argument(parser: ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", type=Literal["auto", "cpu", "cuda", "mps"], default="auto", help="where to compute")


def add_json_argument(parser: ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def recipe_of(arguments: Namespace, default: str) -> Recipe:
    """The recipe that the arguments name, with ``--set`` applied."""
    return load_recipe(arguments.recipe or default, arguments.set)


def free_path(path: Path) -> Path:
    """``path`` if it is free, else the first free ``path-2``, ``path-3``, ...: nothing is overwritten."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate
