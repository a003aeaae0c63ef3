"""reviews.csv: what people said of the verdicts, and the input of the next calibration. Needs no torch."""

import csv
import datetime
import io
import math
import os
import re
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from flawmap.errors import UserError


@dataclass(frozen=True)
class Review:
    """One person's word on one verdict.

    Attributes:
        time_utc: when, ISO 8601.
        image: the name that the image was sent under.
        sha256: of the image file's bytes; a later review of the same bytes replaces this one.
        model_id: of the model whose score this is.
        score: of the image.
        map_peak: the highest value of its map.
        threshold: that was shown.
        shown: the verdict that was shown: ``ok`` or ``anomaly``.
        review: ``agree`` or ``disagree``.
        truth: what the image is according to the person: ``good`` or ``defect``.
        note: free text.
    """

    time_utc: str
    image: str
    sha256: str
    model_id: str
    score: float
    map_peak: float
    threshold: float
    shown: str
    review: str
    truth: str
    note: str


ENCODING = "utf-8-sig"  # with or without the mark that spreadsheets put first
COLUMNS = tuple(field.name for field in fields(Review))
_SHEET_FORMULA = re.compile(r"^[=+\-@\t\r]")  # a spreadsheet would compute such a cell


def review_of(
    image: str,
    sha256: str,
    model_id: str,
    score: float,
    map_peak: float,
    threshold: float,
    review: Literal["agree", "disagree"],
    note: str,
) -> Review:
    """A review made now; what was shown and what is true follow from score, threshold and the person's word."""
    was_anomalous = score > threshold
    is_good = was_anomalous == (review == "disagree")
    return Review(
        time_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        image=_as_plain_cell(image),
        sha256=sha256,
        model_id=model_id,
        score=score,
        map_peak=map_peak,
        threshold=threshold,
        shown="anomaly" if was_anomalous else "ok",
        review=review,
        truth="good" if is_good else "defect",
        note=_as_plain_cell(note),
    )


def _as_plain_cell(text: str) -> str:
    one_line = " ".join(text.splitlines())
    return f"'{one_line}" if _SHEET_FORMULA.match(one_line) else one_line


class ReviewFile:
    """Appends reviews to a file; it is made with the first.

    Raises:
        UserError: there is a file of that name with other columns, or its folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        if path.exists():
            read_reviews(path)
        elif not os.access(path.resolve().parent, os.W_OK):
            problem = "no reviews can be written there: there is no such folder, or it is read-only"
            raise UserError(problem, str(path), "make the folder, or choose another file with --reviews")

    def append(self, review: Review) -> None:
        """Write one line, so that it is there after a crash of the machine, too."""
        with self._lock, self.path.open("a", encoding="utf-8", newline="") as file:
            line = io.StringIO()
            rows = csv.DictWriter(line, COLUMNS, lineterminator="\n")
            if file.tell() == 0:
                rows.writeheader()
            elif not self._ends_its_line():  # edited by hand, or torn by a crash
                file.write("\n")
            rows.writerow(asdict(review))
            file.write(line.getvalue())
            file.flush()
            os.fsync(file.fileno())

    def _ends_its_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) in b"\r\n"


def is_review_file(path: Path) -> bool:
    """Whether this is a reviews.csv, by its first line."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding=ENCODING, errors="replace", newline="") as file:
        return file.readline().strip() == ",".join(COLUMNS)


def read_reviews(path: Path) -> tuple[Review, ...]:
    """The last review of each image, in the order of the file.

    Raises:
        UserError: the file cannot be read, has other columns, or a line is damaged.
    """
    if not is_review_file(path):
        raise UserError("this is no reviews.csv of flawmap serve", str(path), "give the file that the server wrote")
    latest: dict[str, Review] = {}
    try:
        text = path.read_bytes().decode(ENCODING)
    except UnicodeDecodeError as error:
        problem = f"the reviews are no UTF-8 text (byte {error.start})"
        raise UserError(problem, str(path), "save the file as CSV in UTF-8") from error
    rows = csv.DictReader(io.StringIO(text, newline=""))
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return tuple(latest.values())
            review = _review_from(row)
        except (ValueError, TypeError, KeyError, csv.Error) as error:
            place = f"{path} line {rows.line_num}"
            raise UserError(f"a review cannot be read: {error}", place, "remove the line") from error
        latest[review.sha256] = review


def _review_from(row: dict[str, str]) -> Review:
    """A line of the file; ValueError, TypeError or KeyError where it is damaged."""
    if None in row or None in row.values():
        raise ValueError("it has too many or too few cells")
    if row["truth"] not in ("good", "defect"):
        raise ValueError(f"truth is {row['truth']!r}")
    score, map_peak, threshold = (float(row[name]) for name in ("score", "map_peak", "threshold"))
    if not all(math.isfinite(value) for value in (score, map_peak, threshold)):
        raise ValueError("a number is not finite")
    return Review(
        time_utc=row["time_utc"],
        image=row["image"],
        sha256=row["sha256"],
        model_id=row["model_id"],
        score=score,
        map_peak=map_peak,
        threshold=threshold,
        shown=row["shown"],
        review=row["review"],
        truth=row["truth"],
        note=row["note"],
    )
