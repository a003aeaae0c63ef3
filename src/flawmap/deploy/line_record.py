"""What a server keeps of its line, in SQLite beside the reviews: the state of its drift watches, and counts by day.

It is another part of the session's file. An image counts once a day for each camera, however often it is sent: the page
asks for a map of what was scored already.
"""

import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flawmap.metrics.rates import wilson_interval

KEPT_IMAGES = 300_000  # beyond them, the oldest days are forgotten
SHOWN_DAYS = 30
CREATE = """
CREATE TABLE IF NOT EXISTS watches (camera TEXT PRIMARY KEY, state TEXT);
CREATE TABLE IF NOT EXISTS moved (camera TEXT, sha256 TEXT, thumbnail TEXT, PRIMARY KEY (camera, sha256));
CREATE TABLE IF NOT EXISTS answered (
    day TEXT, camera TEXT, sha256 TEXT, model_id TEXT, is_alarm INTEGER, truth TEXT DEFAULT '',
    PRIMARY KEY (day, camera, sha256, model_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answered_images ON answered (sha256, model_id);
"""


@dataclass(frozen=True)
class Day:
    """What a camera saw on a day (UTC), and what people said about it.

    Attributes:
        day: ISO 8601.
        camera: empty for the default.
        images: scored, each counted once.
        alarms: images called anomalous.
        reviewed: alarms that a person has reviewed.
        false_alarms: reviewed alarms that are good.
    """

    day: str
    camera: str
    images: int
    alarms: int
    reviewed: int
    false_alarms: int

    @property
    def rate(self) -> tuple[float, float, float] | None:
        """The share of good images that were called anomalous, and both ends of an interval that covers it in 19 of 20.

        Alarms that nobody reviewed are taken to be false as often as the reviewed ones, which are a sample of them;
        images without an alarm are taken to be good. None where no alarm was reviewed though there are some.
        """
        if self.images == 0 or (self.alarms and not self.reviewed):
            return None
        unreviewed, share = self.alarms - self.reviewed, self.false_alarms / max(1, self.reviewed)
        low, high = wilson_interval(float(self.false_alarms), float(self.reviewed)) if unreviewed else (share, share)
        return (
            self._share_of_good(self.false_alarms + float(unreviewed) * share)[0],
            self._share_of_good(self.false_alarms + float(unreviewed) * low)[1],
            self._share_of_good(self.false_alarms + float(unreviewed) * high)[2],
        )

    def _share_of_good(self, false_alarms: float) -> tuple[float, float, float]:
        good = max(1.0, self.images - self.alarms + false_alarms)
        return false_alarms / good, *wilson_interval(false_alarms, good)


class LineRecord:
    """The tables. Its methods may be called from any thread.

    Args:
        path: of the session's file, which exists.
        kept_images: see ``KEPT_IMAGES``.
    """

    def __init__(self, path: Path, kept_images: int = KEPT_IMAGES) -> None:
        self._kept_images, self._lock, self._day = kept_images, threading.Lock(), ""
        self._base = sqlite3.connect(path, check_same_thread=False, timeout=10.0, isolation_level=None)
        self._base.executescript(CREATE)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def note(self, day: str, camera: str, sha256: str, model_id: str, is_alarm: bool) -> bool:
        """Count an image; False where it was counted on that day already."""
        with self._lock:
            if day != self._day:
                self._forget_old_days()
                self._day = day
            row = (day, camera, sha256, model_id, is_alarm)
            added = self._base.execute(
                "INSERT OR IGNORE INTO answered (day, camera, sha256, model_id, is_alarm) VALUES (?, ?, ?, ?, ?)", row
            )
            return added.rowcount == 1

    def _forget_old_days(self) -> None:
        kept = 0
        counts = self._base.execute("SELECT day, count(*) FROM answered GROUP BY day ORDER BY day DESC").fetchall()
        for number, (day, count) in enumerate(counts):
            kept += count
            if kept > self._kept_images and number > 0:
                self._base.execute("DELETE FROM answered WHERE day <= ?", (day,))
                return

    def note_review(self, sha256: str, model_id: str, truth: str) -> None:
        """Note what an image is according to a person: ``good`` or ``defect``."""
        with self._lock:
            row = (truth, sha256, model_id)
            self._base.execute("UPDATE answered SET truth = ? WHERE sha256 = ? AND model_id = ?", row)

    def days(self, since: str = "") -> tuple[Day, ...]:
        """The last days from a day on, newest first, at most ``SHOWN_DAYS`` of each camera."""
        query = (
            "SELECT day, camera, count(*), sum(is_alarm), sum(is_alarm AND truth != ''), "
            "sum(is_alarm AND truth = 'good') FROM answered WHERE day >= ? GROUP BY day, camera "
            "ORDER BY day DESC, camera"
        )
        with self._lock:
            rows = self._base.execute(query, (since,)).fetchall()
        shown = sorted({row[0] for row in rows}, reverse=True)[:SHOWN_DAYS]
        return tuple(Day(*row) for row in rows if row[0] in shown)

    def save_watch(self, camera: str, state: str, moved: Mapping[str, str | None]) -> None:
        """Keep the state of a watch, and thumbnails of the images that it names.

        Args:
            camera: empty for the default.
            state: of the watch.
            moved: the images by SHA-256, each with its thumbnail; None keeps the one that is there.
        """
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                self._base.execute("INSERT OR REPLACE INTO watches VALUES (?, ?)", (camera, state))
                known = self._base.execute("SELECT sha256 FROM moved WHERE camera = ?", (camera,)).fetchall()
                for (sha256,) in known:
                    if sha256 not in moved:
                        self._base.execute("DELETE FROM moved WHERE camera = ? AND sha256 = ?", (camera, sha256))
                for sha256, thumbnail in moved.items():
                    if thumbnail is not None:
                        self._base.execute("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", (camera, sha256, thumbnail))
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def watch(self, camera: str) -> str:
        """The state of a watch; empty where there is none."""
        with self._lock:
            row = self._base.execute("SELECT state FROM watches WHERE camera = ?", (camera,)).fetchone()
        return row[0] if row else ""

    def thumbnails(self, camera: str) -> dict[str, str]:
        """Thumbnails of the images that a watch names, by SHA-256."""
        with self._lock:
            return dict(
                self._base.execute("SELECT sha256, thumbnail FROM moved WHERE camera = ?", (camera,)).fetchall()
            )

    def clear_thumbnails(self) -> None:
        """Remove all thumbnails."""
        with self._lock:
            self._base.execute("DELETE FROM moved")
