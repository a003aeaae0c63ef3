"""What other installed packages add: entry points, looked for only when an unknown name is asked for or all are listed.

A package registers an object under a group in its ``pyproject.toml``; CONTRIBUTING.md has examples.
"""

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from flawmap.advice import command
from flawmap.errors import UserError


def plugin_names(group: str) -> tuple[str, ...]:
    """The names that installed packages register in a group, sorted; none of them is loaded."""
    return tuple(sorted({found.name for found in _registered(group, tuple(sys.path))}))


def load_plugin(group: str, name: str) -> Any | None:
    """What an installed package registers under a name; None where there is no such name.

    Raises:
        UserError: it cannot be loaded, or several packages register the name; naming the packages.
    """
    found = [one for one in _registered(group, tuple(sys.path)) if one.name == name]
    if not found:
        return None
    if len(found) > 1:
        packages = sorted(map(_package_of, found))
        problem = f"{len(found)} packages register {name!r}: {', '.join(packages)}"
        raise UserError(problem, f"entry points {group}", "uninstall all but one of them")
    try:
        return found[0].load()
    except Exception as error:  # whatever a package raises when it is imported
        raise broken_plugin(group, name, f"cannot be loaded: {type(error).__name__}: {error}") from error


def broken_plugin(group: str, name: str, reason: str) -> UserError:
    """The error that says which package is at fault.

    Args:
        group: of the entry point.
        name: of the entry point.
        reason: continues the sentence after the package's name.
    """
    (found, *_) = (one for one in _registered(group, tuple(sys.path)) if one.name == name)
    package = _package_of(found)
    problem = f"{name!r} of the package {package} {reason}"
    remedy = f"repair or update the package; without it: {command('pip', 'uninstall', package)}"
    return UserError(problem, f"entry point {group}: {name} = {found.value}", remedy)


@cache
def _registered(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Found once for each import path, because reading the metadata of all packages takes a while."""
    return tuple(entry_points(group=group))


def _package_of(found: EntryPoint) -> str:
    return found.dist.metadata["Name"] if found.dist is not None else found.value
