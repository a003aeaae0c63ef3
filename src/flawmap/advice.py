"""Commands that messages recommend. They can be pasted into a shell as they are, whatever a folder is called."""

import shlex
from pathlib import Path

PACKAGE = "flawmap"


def command(*words: str | Path) -> str:
    """A command line for a POSIX shell; a path that begins with a dash is not taken for an option.

    >>> command("flawmap", "check", Path("-my parts"))
    "flawmap check './-my parts'"
    """
    return shlex.join(_shown(word) if isinstance(word, Path) else word for word in words)


def _shown(path: Path) -> str:
    return f"./{path}" if str(path).startswith("-") else str(path)


def install(extra: str, package: str = PACKAGE) -> str:
    """The command that installs the packages of an extra.

    It names these packages and not the extra, so it is right for a clone, an editable and any other installation.
    """
    from importlib.metadata import PackageNotFoundError, requires

    try:
        wanted = [line.partition(";") for line in requires(package) or []]
    except PackageNotFoundError:  # imported from a clone that is not installed
        wanted = []
    marks = {f'extra=="{extra}"', f"extra=='{extra}'"}
    names = [line.strip() for line, _, marker in wanted if marker.replace(" ", "") in marks]
    return shlex.join(["pip", "install", *names]) if names else f"in a clone of {package}: pip install -e '.[{extra}]'"
