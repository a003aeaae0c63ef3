"""reviews.csv: people's reviews of verdicts, and the input of the next calibration. Needs no torch."""

import csv
import datetime
import io
import math
import os
import re
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from flawmap.errors import UserError


@dataclass(frozen=True)
class Review:
    """One person's review of one verdict.

    Attributes:
        time_utc: ISO 8601.
        image: the file name of the upload.
        sha256: of the image file's bytes; a later review of the same bytes replaces an earlier one.
        model_id: of the model that gave the score.
        score: of the image.
        map_peak: the highest value of its anomaly map.
        threshold: the one that was shown.
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


ENCODING = "utf-8-sig"  # reads files with and without the byte order mark that spreadsheets write
COLUMNS = tuple(field.name for field in fields(Review))
# A spreadsheet would evaluate a cell that begins so, also in full-width signs, and a cell ends at a semicolon, a tab or
# a bar where the sheet is set to these separators.
_FORMULA = re.compile(r"(^|[;|])(\s*)(?=[=+\-@＝＋－＠﹦﹢﹣﹫])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def make_review(
    image: str,
    sha256: str,
    model_id: str,
    score: float,
    map_peak: float,
    threshold: float,
    review: Literal["agree", "disagree"],
    note: str,
    is_tolerated: bool = False,
) -> Review:
    """A review made now; verdict and truth follow from score, threshold and the person's answer.

    An image whose regions are all smaller than a minimum area was shown as ok whatever its score.
    """
    was_anomalous = score > threshold and not is_tolerated
    is_good = was_anomalous == (review == "disagree")
    return Review(
        time_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        image=plain_cell(image),
        sha256=sha256,
        model_id=model_id,
        score=score,
        map_peak=map_peak,
        threshold=threshold,
        shown="anomaly" if was_anomalous else "ok",
        review=review,
        truth="good" if is_good else "defect",
        note=plain_cell(note),
    )


def plain_cell(text: str) -> str:
    """Text in one line that no spreadsheet takes for a formula: an apostrophe is put before what would begin one."""
    return _FORMULA.sub(r"\1\2'", _CONTROL.sub(" ", text))


class ReviewFile:
    """Appends reviews to a file, which the first review creates.

    Raises:
        UserError: the file exists and has other columns, or its folder is not writable.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        if path.exists():
            read_reviews(path)
        elif not os.access(path.resolve().parent, os.W_OK):
            problem = "reviews cannot be written: there is no such folder, or it is read-only"
            raise UserError(problem, str(path), "create the folder, or choose another file with --reviews")

    def append(self, review: Review) -> None:
        """Write one line, which survives a crash of the machine."""
        with self._lock, self.path.open("a", encoding="utf-8", newline="") as file:
            text = io.StringIO()
            rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            if file.tell() == 0:
                rows.writeheader()
            elif not self._ends_with_line_feed():  # edited by hand, or cut off by a crash
                file.write("\n")
            rows.writerow(asdict(review))
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())

    def _ends_with_line_feed(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) in b"\r\n"


def is_review_file(path: Path) -> bool:
    """Whether this is a reviews.csv, judged by its first line."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding=ENCODING, errors="replace", newline="") as file:
        return file.readline().rstrip("\r\n") == ",".join(COLUMNS)


def read_reviews(path: Path) -> tuple[Review, ...]:
    """The last review of each image, in the order of the file.

    Raises:
        UserError: the file cannot be read, has other columns, or has a damaged line.
    """
    if not path.exists():
        raise UserError("there is no such file", str(path), "give the reviews.csv of flawmap serve")
    if not is_review_file(path):
        raise UserError("this is not a reviews.csv of flawmap serve", str(path), "give the file that the server wrote")
    try:
        text = path.read_bytes().decode(ENCODING)
    except UnicodeDecodeError as error:
        problem = f"the reviews are not UTF-8 text (byte {error.start})"
        raise UserError(problem, str(path), "save the file as CSV in UTF-8") from error
    reviews: dict[str, Review] = {}
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            review = _review_in(row)
            reviews[review.sha256] = review
    except (ValueError, csv.Error) as error:
        place = f"{path} line {rows.line_num}"
        raise UserError(f"a review cannot be read: {error}", place, "fix or remove the line") from error
    return tuple(reviews.values())


def _review_in(row: dict[str, Any]) -> Review:
    """The review in a row; ValueError where it is damaged."""
    if None in row or None in row.values():
        raise ValueError("it has too many or too few cells")
    if row["truth"] not in ("good", "defect"):
        raise ValueError(f"truth is {row['truth']!r}")
    numbers: dict[str, Any] = {name: float(row[name]) for name in ("score", "map_peak", "threshold")}
    if not all(math.isfinite(number) for number in numbers.values()):
        raise ValueError("a number is not finite")
    return Review(**(row | numbers))
