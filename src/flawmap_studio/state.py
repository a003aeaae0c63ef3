"""What people decided, in SQLite: labels of images, the region, reviews, and which jobs were started.

Images themselves are never in here, and never changed. Without this file the studio begins anew with the same images.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flawmap.advice import command
from flawmap.errors import UserError

APPLICATION_ID = 0x666C7374  # "flst", in the header of the file
CREATE = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE images (path TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER, use TEXT, label TEXT);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, title TEXT, command TEXT, facts TEXT, at REAL);
CREATE TABLE reviews (
    number INTEGER PRIMARY KEY AUTOINCREMENT, result TEXT, path TEXT, truth TEXT, note TEXT, former TEXT, at REAL
);
"""


class State:
    """The SQLite file of a studio. Its methods may be called from any thread.

    Raises:
        UserError: the file belongs to another program, is damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        away = command("mv", path, path.with_suffix(".old"))
        remedy = f"{away}, and begin anew; labels and reviews are in it"
        try:
            self._base = sqlite3.connect(path, check_same_thread=False, timeout=10.0, isolation_level=None)
            found = self._base.execute("PRAGMA application_id").fetchone()[0]
            if found == 0 and not self._base.execute("SELECT name FROM sqlite_master").fetchone():
                self._base.executescript(CREATE)
            elif found != APPLICATION_ID:
                raise UserError("this file belongs to another program", str(path), remedy)
            self._base.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            raise UserError(f"the studio's state cannot be opened: {error}", str(path), remedy) from error

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def ask(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._base.execute(query, values).fetchall()

    def change(self, query: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row, all of them or none."""
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                self._base.executemany(query, rows)
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def insert(self, query: str, values: Sequence[Any]) -> int:
        """Insert a row, and give its number."""
        with self._lock:
            number = self._base.execute(query, values).lastrowid
        assert number is not None
        return number

    def setting(self, name: str, default: Any = None) -> Any:
        """A setting of the studio, or the default."""
        found = self.ask("SELECT value FROM settings WHERE name = ?", (name,))
        return json.loads(found[0][0]) if found else default

    def set(self, name: str, value: Any) -> None:
        """Keep a setting."""
        self.change("INSERT OR REPLACE INTO settings VALUES (?, ?)", [(name, json.dumps(value))])


def now() -> float:
    """Seconds since 1970."""
    return time.time()
