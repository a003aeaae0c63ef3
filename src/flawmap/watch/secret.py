"""Secrets, from the environment or from files that it names; never from a command line, which all users can read."""

import os
from pathlib import Path

from flawmap.errors import UserError


def secret(name: str) -> str:
    """The value of an environment variable, or the content of the file that ``NAME_FILE`` names; empty without both.

    Raises:
        UserError: the file cannot be read.
    """
    if value := os.environ.get(name):
        return value
    if file := os.environ.get(f"{name}_FILE"):
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise UserError(
                f"the file of a secret cannot be read: {error}", f"{name}_FILE", "check the path"
            ) from error
    return ""
