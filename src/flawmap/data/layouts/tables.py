"""CSV files of data sets."""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from flawmap.errors import UserError

SEPARATORS = ",;\t|"
CLOSE = 0.76  # how alike a name must be to be taken for a misspelling; age and image are less
OTHER_NAMES = {  # what columns are often called, in lower case and letters alone
    **dict.fromkeys(("file", "filename", "filepath", "imagepath", "imagename", "imagefile", "imageindex"), "image"),
    **dict.fromkeys(("path", "img"), "image"),
    **dict.fromkeys(("set", "subset", "partition", "fold"), "split"),
    **dict.fromkeys(("class", "target"), "label"),
    **dict.fromkeys(("bbox", "bboxes", "box", "boundingbox", "boundingboxes"), "boxes"),
    **dict.fromkeys(("subject", "subjectid", "case", "caseid", "mrn", "pid", "patientid", "patid", "patnr"), "patient"),
    **dict.fromkeys(("gender", "patientsex", "patientgender"), "sex"),
    **dict.fromkeys(("viewposition", "projection"), "view"),
}
SHOWN = 80  # characters of a line in a message


def read_table(
    path: Path, kind: str, required: Sequence[str], remedy: str, optional: Sequence[str] = ()
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a CSV file in UTF-8, or in UTF-16 with a byte order mark; spaces around names and values are removed.

    The separator (comma, semicolon, tab or bar) is the one with which the header has the most of the required columns.
    Names of columns are found in upper and lower case. Lines before the header that begin with ``#``, and Excel's
    ``sep=;``, are passed over.

    Args:
        path: of the file.
        kind: what it is, for errors.
        required: columns that it must have.
        remedy: for errors.
        optional: further columns that are read.

    Returns:
        names of the columns, and (number of its first line, row) for every row that is not empty.

    Raises:
        UserError: the file cannot be read, lacks a column or has one twice, has a row with more values than columns,
            or a quote that is not closed.
    """
    text = _decoded(path, kind, remedy)
    header, line, rest = _header_line(text)
    if not header:
        raise UserError(f"the {kind} is empty", str(path), remedy)
    separator, columns = _columns_of(header, required, optional)
    _require_columns(columns, header, required, kind, str(path), remedy)
    records = csv.reader(io.StringIO(rest, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    next_line = line + 1
    try:
        for cells in records:
            this_line, next_line = next_line, line + 1 + records.line_num
            if too_many := [cell for cell in cells[len(columns) :] if cell.strip()]:
                problem = (
                    f"row {this_line} has {len(cells)} values for {len(columns)} columns, the last is {too_many[-1]!r}"
                )
                raise UserError(problem, str(path), f"put values that hold {_named(separator)} into double quotes")
            cells += [""] * (len(columns) - len(cells))
            row = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if name}
            if any(row.values()):
                rows.append((this_line, row))
    except csv.Error as error:
        problem = f"row {next_line} of the {kind} cannot be read ({error})"
        close = 'close each double quote, and write one inside a quoted value twice: ""'
        raise UserError(problem, str(path), close) from error
    return columns, rows


def _decoded(path: Path, kind: str, remedy: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"the {kind} cannot be read: {error}", str(path), remedy) from error
    save = "save it in UTF-8 (Excel: CSV UTF-8)"
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
        problem = f"the {kind} is not in UTF-8: line {line} holds the byte 0x{data[error.start]:02x}"
        raise UserError(problem, str(path), save) from error
    if "\0" in text:
        raise UserError(f"the {kind} holds zero bytes: is it UTF-16 without a byte order mark?", str(path), save)
    return text


def _header_line(text: str) -> tuple[str, int, str]:
    """The header ("" if there is none), the number of its line, and the text after it."""
    number, rest = 0, text
    while rest:
        line, _, rest = re.split(r"(\r\n|\r|\n|$)", rest, maxsplit=1)
        number += 1
        if line.strip() and not line.lstrip().startswith("#") and not re.fullmatch(r"sep=.", line.strip()):
            return line, number, rest
    return "", number, ""


def _columns_of(header: str, required: Sequence[str], optional: Sequence[str]) -> tuple[str, list[str]]:
    """The separator, and the names of the columns; known ones as we write them."""
    known = {name.casefold(): name for name in (*required, *optional)}
    best: tuple[str, list[str]] = ",", []
    for separator in SEPARATORS:
        cells = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
        columns = [known.get(cell.strip().casefold(), cell.strip()) for cell in cells]
        if not best[1] or len(set(columns) & set(required)) > len(set(best[1]) & set(required)):
            best = separator, columns
    return best


def meant_by(name: str, wanted: Sequence[str]) -> str | None:
    """The column that a name probably means, of those that are wanted: by what it is often called, or its spelling."""
    letters = re.sub(r"[^a-z]", "", name.casefold())
    if (usual := OTHER_NAMES.get(letters)) in wanted:
        return usual
    return next(iter(get_close_matches(letters, wanted, n=1, cutoff=CLOSE)), None)


def _require_columns(
    columns: Sequence[str], header: str, required: Sequence[str], kind: str, place: str, remedy: str
) -> None:
    """Raises: UserError: the header is none, or lacks a required column, or has a name twice."""
    missing = [name for name in required if name not in columns]
    if len(missing) == len(required):
        shown = header.strip()[:SHOWN]
        raise UserError(f"the first line of the {kind} does not name the columns: {shown}", place, remedy)
    if missing:
        near = [name for name in columns if name not in required and meant_by(name, missing) == missing[0]]
        meant = f"; is {near[0]!r} meant?" if near else ""
        has = ", ".join(columns)
        raise UserError(f"the {kind} lacks the column {missing[0]!r} (it has {has}{meant})", place, remedy)
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise UserError(f"the {kind} has the column {twice[0]!r} twice", place, "remove one of them")


def _named(separator: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(separator, "a bar")
