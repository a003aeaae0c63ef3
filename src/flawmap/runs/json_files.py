"""JSON and CSV files as dataclasses. Reading checks every type; a format that carries a version follows one rule."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_text

T = TypeVar("T")


def read_json(path: Path, kind: type[T], remedy: str, renamed: Mapping[str, str] | None = None) -> T:
    """Read a JSON file into a dataclass, or into a type such as ``dict``.

    Args:
        path: of the file.
        kind: what it must hold. Further keys are ignored.
        remedy: what the user can do if it does not.
        renamed: names that keys had in files of earlier versions, each with today's name.

    Raises:
        UserError: the file cannot be read, is not JSON, lacks a key, or has a value of another type.
    """
    try:
        if not renamed:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return msgspec.convert({renamed.get(key, key): value for key, value in content.items()}, kind)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise UserError(f"{path.name} is damaged: {error}", str(path), remedy) from error


def write_json(path: Path, content: Any) -> None:
    """Write a dataclass; a crash leaves the old file or the new one."""
    atomic_write_text(path, json.dumps(asdict(content), indent=2))


def read_csv(path: Path, parse: Callable[[dict[str, str]], T], remedy: str) -> tuple[T, ...]:
    """Read each row of a CSV file with a header; nothing where there is no file.

    Raises:
        UserError: the file is damaged, or ``parse`` raises KeyError, TypeError or ValueError.
    """
    if not path.is_file():
        return ()
    rows: list[T] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.append(parse(row))
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"row {len(rows) + 2} of {path.name} is damaged: {error!r}", str(path), remedy) from error
    return tuple(rows)


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file; a crash leaves the old file or the new one."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a name may hold a carriage return
    table.writerows([head, *rows])
    atomic_write_text(path, buffer.getvalue())


def refuse_unreadable_format(version: int, oldest: int, newest: int, place: str, convert: str) -> None:
    """A newer flawmap opens every format from ``oldest`` on, and names the command that converts an earlier one.

    Args:
        version: of the file or folder.
        oldest: that this flawmap opens.
        newest: that this flawmap knows, which is what it writes.
        place: of the file or folder.
        convert: the command that brings an earlier format up to date.

    Raises:
        UserError: the format is newer than this flawmap, or too old.
    """
    if version > newest:
        problem = f"the format is {version}; this flawmap reads up to {newest}"
        raise UserError(problem, place, "update flawmap to the version that wrote it")
    if version < oldest:
        raise UserError(f"the format is {version}; this flawmap reads {oldest} and later", place, convert)
