"""CSV files of data sets."""

import csv
from collections.abc import Sequence
from pathlib import Path

from flawmap.errors import UserError


def read_table(
    path: Path, kind: str, required: Sequence[str], remedy: str
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a CSV file in UTF-8; spaces around names and values are removed.

    Args:
        path: of the file.
        kind: what it is, for errors.
        required: columns that it must have.
        remedy: for errors.

    Returns:
        names of the columns, and (line number, row) for every row that is not empty.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the {kind} cannot be read: {error}", str(path), remedy) from error
    missing = [name for name in required if name not in columns]
    if missing:
        has = ", ".join(columns) or "none"
        raise UserError(f"the {kind} lacks the column {missing[0]!r} (it has {has})", str(path), remedy)
    return columns, [(line, row) for line, row in rows if any(row.values())]
