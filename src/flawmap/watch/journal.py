"""What happened to each image, and what is still to be told about it, in one SQLite file that survives a kill.

A verdict and its messages are written in one transaction (a transactional outbox), so neither is there without the
other. The thread that judges has a :class:`Journal`, each thread that delivers has an :class:`Outbox` on the same file.
"""

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flawmap.errors import UserError
from flawmap.runs.json_files import refuse_unreadable_format
from flawmap.watch.message import Image, Message

FORMAT = 1
BUSY_S = 30.0  # for another thread's transaction; one takes milliseconds
SYNCHRONOUS = "FULL"  # a verdict is on the disk before its file is moved, also when the power fails
DRIFT_TABLE = "CREATE TABLE IF NOT EXISTS drift (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID"
MOST_ATTEMPTS = 3  # at one file: a file that kills the process must not do so for ever
LEFT_OUT = "left_out"  # status of a file that is no image; the other states are those of a message
CREATE = """
CREATE TABLE images (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    image TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    status TEXT NOT NULL,
    is_anomalous INTEGER,
    score REAL,
    threshold REAL,
    problem TEXT,
    triggered_by TEXT,
    model_id TEXT NOT NULL,
    camera TEXT,
    judged_utc TEXT NOT NULL,
    folder TEXT,
    moving_to TEXT,
    moved_to TEXT,
    UNIQUE (image, size_bytes, time_ns, sha256)
);
CREATE INDEX unmoved ON images (number) WHERE folder IS NOT NULL AND moved_to IS NULL;
CREATE TABLE outbox (
    number INTEGER NOT NULL REFERENCES images,
    destination TEXT NOT NULL,
    body TEXT NOT NULL,
    delivered_utc TEXT,
    refused TEXT,
    PRIMARY KEY (number, destination)
) WITHOUT ROWID;
CREATE INDEX waiting ON outbox (destination, number) WHERE delivered_utc IS NULL AND refused IS NULL;
CREATE TABLE attempts (
    image TEXT, size_bytes INTEGER, time_ns INTEGER, n INTEGER NOT NULL, PRIMARY KEY (image, size_bytes, time_ns)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Unmoved:
    """A judged file whose move has not been noted.

    Attributes:
        number: of its row.
        image: what it was when it was judged.
        folder: where it is to go.
        moving_to: the name that was chosen for it; None before one was.
    """

    number: int
    image: Image
    folder: Path
    moving_to: Path | None


@dataclass(frozen=True)
class Outgoing:
    """A message that waits.

    Attributes:
        number: of the image's row.
        id: of the message.
        body: JSON.
    """

    number: int
    id: str
    body: str


class Journal:
    """The rows of images. Each method is one transaction, which is on the disk when it returns.

    Args:
        path: of the file; made where there is none.
        destinations: the keys of those who are told of each verdict.

    Raises:
        UserError: the file is no journal, or of a newer flawmap, or cannot be opened.
    """

    def __init__(self, path: Path, destinations: Sequence[str] = ()) -> None:
        self._destinations = tuple(destinations)
        self._db = _connected(path)
        if not self._db.execute("PRAGMA user_version").fetchone()[0]:
            with _transaction(self._db):
                for statement in filter(str.strip, CREATE.split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {FORMAT}")
        with _transaction(self._db):  # journals of the first versions have no such table
            self._db.execute(DRIFT_TABLE)

    def is_known(self, image: Image) -> bool:
        """Whether a file at this place, of this size and time, has its row and was not moved away from there.

        The content is not compared, so that no file is read twice.
        """
        sql = "SELECT 1 FROM images WHERE image = ? AND size_bytes = ? AND time_ns = ? AND moved_to IS NULL"
        return self._db.execute(sql, (image.name, image.size_bytes, image.time_ns)).fetchone() is not None

    def came_back(self, image: Image) -> bool:
        """Whether exactly this image has its row, though its file was moved away; it is then to be moved again."""
        sql = "UPDATE images SET moving_to = NULL, moved_to = NULL WHERE image = ? AND size_bytes = ? AND time_ns = ? "
        key = image.name, image.size_bytes, image.time_ns, image.sha256
        with _transaction(self._db):
            return self._db.execute(f"{sql} AND sha256 = ?", key).rowcount > 0

    def begin(self, image: Image) -> bool:
        """Note that a file is about to be judged; False if that has ended the process too often."""
        key = image.name, image.size_bytes, image.time_ns
        with _transaction(self._db):
            (n,) = self._db.execute(
                "INSERT INTO attempts VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING n", key
            ).fetchone()
        return n <= MOST_ATTEMPTS

    def add(
        self,
        image: Image,
        message: Message,
        folder: Path | None = None,
        saved_to: Path | None = None,
        drift: tuple[str | None, str] | None = None,
    ) -> int:
        """Write a verdict and its messages. Exactly this image must not have a row yet, see :meth:`came_back`.

        Args:
            image: that was judged.
            message: about it.
            folder: where its file is to be moved; None where it stays.
            saved_to: where a frame was saved; None for a file, and where it was not.
            drift: whose drift watch saw this image, and its state since then; None: none did.

        Returns:
            the number of the row.
        """
        with _transaction(self._db):
            self._forget_attempts(image)
            number = self._insert(
                image,
                id=message.id,
                status=message.status,
                is_anomalous=message.is_anomalous,
                score=message.score,
                threshold=message.threshold,
                problem=message.problem,
                model_id=message.model_id,
                camera=message.camera,
                judged_utc=message.judged_utc,
                folder=str(folder) if folder else None,
                moved_to=str(saved_to) if saved_to else None,
            )
            body = message.to_text()
            rows = [(number, destination, body) for destination in self._destinations]
            self._db.executemany("INSERT INTO outbox (number, destination, body) VALUES (?, ?, ?)", rows)
            if drift is not None:
                self._db.execute("INSERT OR REPLACE INTO drift VALUES (?, ?)", (drift[0] or "", drift[1]))
        return number

    def drift(self, name: str | None) -> str:
        """The state of a drift watch, as :meth:`add` was given it last; empty before the first."""
        found = self._db.execute("SELECT state FROM drift WHERE name = ?", (name or "",)).fetchone()
        return found[0] if found else ""

    def add_left_out(self, image: Image, reason: str, found_utc: str) -> None:
        """Write that a file is no image; nobody is told."""
        with _transaction(self._db):
            self._insert(
                image, id=str(uuid.uuid4()), status=LEFT_OUT, problem=reason, model_id="", judged_utc=found_utc
            )

    def _insert(self, image: Image, **values: object) -> int:
        row = {
            **{"kind": image.kind, "image": image.name, "size_bytes": image.size_bytes, "time_ns": image.time_ns},
            **{"sha256": image.sha256, "triggered_by": image.trigger},
            **values,
        }
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        number = self._db.execute(f"INSERT INTO images ({names}) VALUES ({marks})", tuple(row.values())).lastrowid
        assert number is not None
        return number

    def _forget_attempts(self, image: Image) -> None:
        sql = "DELETE FROM attempts WHERE image = ? AND size_bytes = ? AND time_ns = ?"
        self._db.execute(sql, (image.name, image.size_bytes, image.time_ns))

    def unmoved(self, image: Image | None = None) -> list[Unmoved]:
        """Files that were judged and whose move was not noted; those at the place of ``image``, or all."""
        sql = (
            "SELECT number, kind, image, size_bytes, time_ns, sha256, folder, moving_to FROM images "
            "WHERE folder IS NOT NULL AND moved_to IS NULL AND (?1 IS NULL OR image = ?1) ORDER BY number"
        )
        return [
            Unmoved(number, Image(*found), Path(folder), Path(moving_to) if moving_to else None)
            for number, *found, folder, moving_to in self._db.execute(sql, (image.name if image else None,))
        ]

    def plan_move(self, number: int, target: Path) -> None:
        """Write the name that a file is about to get."""
        with _transaction(self._db):
            self._db.execute("UPDATE images SET moving_to = ? WHERE number = ?", (str(target), number))

    def note_moved(self, number: int, target: Path) -> None:
        """Write where a file is now."""
        with _transaction(self._db):
            self._db.execute("UPDATE images SET moved_to = ? WHERE number = ?", (str(target), number))

    def leave_unmoved(self, number: int) -> None:
        """Write that a file is not to be moved any more, because it was changed after its verdict."""
        with _transaction(self._db):
            self._db.execute("UPDATE images SET folder = NULL WHERE number = ?", (number,))

    def waiting(self) -> dict[str, int]:
        """How many messages are not delivered, by destination; refused ones do not count."""
        sql = "SELECT destination, count(*) FROM outbox WHERE delivered_utc IS NULL AND refused IS NULL GROUP BY 1"
        return dict(self._db.execute(sql).fetchall())

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class Outbox:
    """The messages for one destination, for the thread that delivers them.

    Args:
        path: of the journal.
        destination: its key.
    """

    def __init__(self, path: Path, destination: str) -> None:
        self._db, self._destination = _connected(path), destination

    def waiting(self, most: int) -> list[Outgoing]:
        """The oldest messages that are not delivered, at most so many."""
        sql = (
            "SELECT number, id, body FROM outbox JOIN images USING (number) WHERE destination = ? "
            "AND delivered_utc IS NULL AND refused IS NULL ORDER BY number LIMIT ?"
        )
        return [Outgoing(*row) for row in self._db.execute(sql, (self._destination, most))]

    def note(self, delivered: Sequence[int], refused: Sequence[tuple[int, str]]) -> None:
        """Write which messages were delivered, by their numbers, and which were refused, with the reason.

        The text of a delivered message is forgotten, so that the file stays small.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        where = "WHERE number = ? AND destination = ?"
        with _transaction(self._db):
            done = [(now, number, self._destination) for number in delivered]
            self._db.executemany(f"UPDATE outbox SET delivered_utc = ?, body = '' {where}", done)
            kept = [(reason, number, self._destination) for number, reason in refused]
            self._db.executemany(f"UPDATE outbox SET refused = ? {where}", kept)

    def try_refused_again(self) -> None:
        """Let messages wait again that the destination had refused."""
        with _transaction(self._db):
            sql = "UPDATE outbox SET refused = NULL WHERE destination = ? AND refused IS NOT NULL"
            self._db.execute(sql, (self._destination,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _connected(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables and not version:
                raise sqlite3.DatabaseError("it is another program's database")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise UserError(f"the journal cannot be opened: {error}", str(path), "choose another --journal") from error
    try:
        refuse_unreadable_format(version, 0, FORMAT, str(path), "")
    except UserError:
        db.close()
        raise
    return db


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; the lock is taken at the start, so that no transaction fails half-way."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
