"""What the server has scored, and what its page shows: in SQLite beside reviews.csv, so that a reload loses nothing.

Every upload leaves its score here, because a review is accepted only of an image that this server scored, with the
score that it gave. Uploads of the page also leave their file, so that the page can show them again.
"""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flawmap.errors import UserError

KEPT_SCORES = 100_000
KEPT_BYTES = 2_000_000_000  # of files
APPLICATION_ID = 0x666C6177  # "flaw", in the header of the SQLite file
CREATE = """
PRAGMA application_id = {id};
CREATE TABLE scored (
    sha256 TEXT, model_id TEXT, score REAL, map_peak REAL, is_tolerated INTEGER DEFAULT 0,
    PRIMARY KEY (sha256, model_id)
);
CREATE TABLE shown (
    sha256 TEXT PRIMARY KEY, name TEXT, answer TEXT, file BLOB, bytes INTEGER, review TEXT, note TEXT, at REAL
);
"""


@dataclass(frozen=True)
class GivenScore:
    """What this server gave an image: its score, the highest map value, and whether all its regions were too small."""

    score: float
    map_peak: float
    is_tolerated: bool = False


@dataclass(frozen=True)
class ShownImage:
    """An image of the page.

    Attributes:
        sha256: of the file's bytes.
        name: of the file.
        answer: the server's, as JSON, without pictures.
        has_file: whether the file is still kept.
        review: ``agree``, ``disagree`` or empty.
        note: of the review.
    """

    sha256: str
    name: str
    answer: str
    has_file: bool
    review: str
    note: str


class Session:
    """The SQLite file of a server. Its methods may be called from any thread.

    Args:
        path: of the file, which is made where it does not exist.
        kept_scores: of the uploads before, the number whose scores are remembered.
        kept_bytes: of the page's files together; the oldest are given up first.

    Raises:
        UserError: the file belongs to another program, is damaged, or cannot be written.
    """

    def __init__(self, path: Path, kept_scores: int = KEPT_SCORES, kept_bytes: int = KEPT_BYTES) -> None:
        self.path, self._kept_scores, self._kept_bytes = path, kept_scores, kept_bytes
        self._lock = threading.Lock()
        try:
            self._base = sqlite3.connect(path, check_same_thread=False, timeout=10.0, isolation_level=None)
            self._open()
        except sqlite3.Error as error:
            remedy = "move the file away, or choose another place with --reviews"
            raise UserError(f"the session cannot be opened: {error}", str(path), remedy) from error

    def _open(self) -> None:
        (found,) = self._base.execute("PRAGMA application_id").fetchone()
        (tables,) = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and found != APPLICATION_ID:
            raise sqlite3.DatabaseError("it is the file of another program")
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            self._base.executescript(CREATE.format(id=APPLICATION_ID))
        elif "is_tolerated" not in {row[1] for row in self._base.execute("PRAGMA table_info(scored)")}:
            self._base.execute("ALTER TABLE scored ADD COLUMN is_tolerated INTEGER DEFAULT 0")  # of an earlier flawmap

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def remember(self, sha256: str, model_id: str, given: GivenScore) -> None:
        """Note the score of an upload; the oldest beyond the limit is forgotten."""
        with self._changes() as base:
            base.execute("DELETE FROM scored WHERE sha256 = ? AND model_id = ?", (sha256, model_id))
            row = (sha256, model_id, given.score, given.map_peak, given.is_tolerated)
            number = base.execute("INSERT INTO scored VALUES (?, ?, ?, ?, ?)", row).lastrowid or 0
            base.execute("DELETE FROM scored WHERE rowid <= ?", (number - self._kept_scores,))

    def given_score(self, sha256: str, model_id: str) -> GivenScore | None:
        """What a model gave an image here; None if it is not remembered."""
        with self._lock:
            query = "SELECT score, map_peak, is_tolerated FROM scored WHERE sha256 = ? AND model_id = ?"
            row = self._base.execute(query, (sha256, model_id)).fetchone()
        return GivenScore(row[0], row[1], bool(row[2])) if row else None

    def show(self, sha256: str, name: str, answer: str, file: bytes) -> None:
        """Add an image to the page, or replace its answer; its review stays."""
        with self._changes() as base:
            row = {
                "sha256": sha256,
                "name": name,
                "answer": answer,
                "file": file,
                "bytes": len(file),
                "at": time.time(),
            }
            base.execute(
                "INSERT INTO shown VALUES (:sha256, :name, :answer, :file, :bytes, '', '', :at) "
                "ON CONFLICT DO UPDATE SET name = :name, answer = :answer, file = :file, bytes = :bytes",
                row,
            )
            self._give_up_files(base)

    def _give_up_files(self, base: sqlite3.Connection) -> None:
        (total,) = base.execute("SELECT coalesce(sum(bytes), 0) FROM shown").fetchone()
        if total <= self._kept_bytes:
            return
        for sha256, size in base.execute("SELECT sha256, bytes FROM shown WHERE bytes > 0 ORDER BY at").fetchall():
            base.execute("UPDATE shown SET file = NULL, bytes = 0 WHERE sha256 = ?", (sha256,))
            total -= size
            if total <= self._kept_bytes:
                return

    def note_review(self, sha256: str, review: str, note: str) -> None:
        """Note a review beside the image, if the page shows it."""
        with self._changes() as base:
            base.execute("UPDATE shown SET review = ?, note = ? WHERE sha256 = ?", (review, note, sha256))

    def images(self) -> tuple[ShownImage, ...]:
        """All images of the page, in the order in which they came."""
        query = "SELECT sha256, name, answer, file IS NOT NULL, review, note FROM shown ORDER BY at, rowid"
        with self._lock:
            rows: Iterable[tuple] = self._base.execute(query).fetchall()
        return tuple(ShownImage(a, b, c, bool(d), e, f) for a, b, c, d, e, f in rows)

    def file(self, sha256: str) -> bytes | None:
        """The file of an image; None if it is not kept."""
        with self._lock:
            row = self._base.execute("SELECT file FROM shown WHERE sha256 = ?", (sha256,)).fetchone()
        return row[0] if row else None

    def clear(self) -> None:
        """Remove all images of the page. Scores stay, so that what was seen can still be reviewed."""
        with self._changes() as base:
            base.execute("DELETE FROM shown")
        with self._lock:
            self._base.execute("VACUUM")  # gives the space back, and leaves nothing of the files behind

    @contextmanager
    def _changes(self) -> Iterator[sqlite3.Connection]:
        """Changes that are made together, or not at all."""
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")
