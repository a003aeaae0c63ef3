"""Parsing, and the arguments that several verbs share."""

import re
import shlex
from argparse import HelpFormatter
from collections.abc import Callable, Sequence

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from flawmap.cli.verbs import VERBS
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe

# how jsonargparse says that a value has the wrong type
WRONG_TYPE = re.compile(r'Parser key "(?P<key>\w+)":\s+Expected a <class .(?P<type>\w+).>\. Got value: (?P<value>.*)')


def parse(verb: str, add_arguments: Callable[[ArgumentParser], None], words: Sequence[str]) -> Namespace:
    """Parse the words after the verb.

    Returns:
        the arguments, and ``command``: what was typed, for the record.

    Raises:
        UserError: unknown, missing or empty arguments.
    """
    parser = ArgumentParser(
        prog=f"flawmap {verb}",
        description=VERBS[verb],
        formatter_class=HelpFormatter,
        exit_on_error=False,
        default_env=False,
        allow_abbrev=False,
    )
    add_arguments(parser)
    try:
        arguments = parser.parse_args(list(words))
    except ArgumentError as error:
        raise UserError(_plain(str(error).strip()), f"flawmap {verb}", f"flawmap {verb} --help") from error
    for name, value in vars(arguments).items():
        if value == "" or (isinstance(value, list) and "" in value):
            raise UserError(f"{name} is empty", f"flawmap {verb}", "name it; was a variable of the shell not set?")
    arguments.command = shlex.join(["flawmap", verb, *words])
    return arguments


def _plain(problem: str) -> str:
    found = WRONG_TYPE.match(problem)
    if found is None:
        return problem
    return f"--{found['key'].replace('_', '-')} is {found['value']}, must be a number"


def add_recipe_arguments(parser: ArgumentParser) -> None:
    """``--recipe`` and ``--set``."""
    parser.add_argument(
        "--recipe", type=str, default=None, help="a preset (quick, standard, paper, ...) or a YAML file"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="change one setting; may be repeated"
    )


def add_data_arguments(parser: ArgumentParser) -> None:
    """``--skip-unreadable``."""
    parser.add_argument("--skip-unreadable", action="store_true", help="leave files out that cannot be decoded")


def add_device_argument(parser: ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute (default: auto)"
    )


def add_json_argument(parser: ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout, and nothing else")


def recipe_of(arguments: Namespace, default: str) -> Recipe:
    """The recipe that the arguments name, with ``--set`` applied."""
    return load_recipe(arguments.recipe or default, arguments.set)
