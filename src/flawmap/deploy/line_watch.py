"""What a server knows of the line in front of it: whether its images drift, and how often it alarms falsely."""

import datetime
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flawmap.deploy.answers import thumbnail_of
from flawmap.deploy.drift_watch import DriftWatch, Measure
from flawmap.deploy.line_record import Day, LineRecord
from flawmap.deploy.work_queue import Scored
from flawmap.detect.model_facts import ModelFacts
from flawmap.engine.progress import say
from flawmap.runs.calibration import Calibration


class LineWatch:
    """The drift watches of a server's cameras, and the counts of their days. Images are shown by one thread.

    Args:
        record: what is kept across restarts.
        source: the path of the model, for commands in warnings; its folder is told to nobody but the server's log.
    """

    def __init__(self, record: LineRecord, source: Path | None) -> None:
        self._record, self._source = record, source
        self._lock = threading.Lock()
        self._watches: dict[str | None, tuple[Calibration | None, DriftWatch]] = {}

    def of(self, facts: ModelFacts) -> DriftWatch:
        """The watch on the camera of these facts; another calibration begins another one."""
        with self._lock:
            calibration, watch = self._watches.get(facts.camera, (None, None))
            if watch is None or calibration != facts.calibration:
                watch = DriftWatch(facts.calibration, facts.camera)
                watch.restore(self._record.watch(facts.camera or ""))
                self._watches[facts.camera] = facts.calibration, watch
            return watch

    def see(self, scored: Scored, sha256: str, name: str, facts: ModelFacts) -> tuple[Measure, ...]:
        """Watch and count an image that was just scored; returns what newly warns.

        A full disk costs the watch, not the answer.
        """
        try:
            return self._see(scored, sha256, name, facts)
        except sqlite3.Error as error:
            say("note", f"the record of the line cannot be written: {error}")
            return ()

    def _see(self, scored: Scored, sha256: str, name: str, facts: ModelFacts) -> tuple[Measure, ...]:
        detection, now = scored.detection, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        camera, watch = facts.camera or "", self.of(facts)
        if not self._record.note(now[:10], camera, sha256, facts.model_id, detection.is_anomalous):
            return ()
        before, had = watch.warnings, set(_moved(watch))
        watch.see(detection.scores, detection.score, name, sha256, now)
        moved = dict.fromkeys(_moved(watch))
        if sha256 in moved and sha256 not in had:
            moved[sha256] = thumbnail_of(scored.pixels)
        self._record.save_watch(camera, watch.stored(), moved)
        if news := watch.news(before, self._source):
            say("drift", news)
        return tuple(name for name in watch.warnings if name not in before)

    def close(self) -> None:
        """Close the record."""
        self._record.close()

    def note_review(self, sha256: str, model_id: str, truth: str) -> None:
        """Note what an image is according to a person."""
        self._record.note_review(sha256, model_id, truth)

    def clear_thumbnails(self) -> None:
        """Forget what images of warnings look like."""
        self._record.clear_thumbnails()

    def days(self) -> tuple[Day, ...]:
        """See :meth:`LineRecord.days`."""
        return self._record.days()

    def today(self) -> tuple[Day, ...]:
        """The day so far, of each camera."""
        return self._record.days(datetime.datetime.now(datetime.UTC).date().isoformat())

    @property
    def watches(self) -> tuple[DriftWatch, ...]:
        """Of all cameras that have sent an image, or whose facts were asked for, since the start."""
        with self._lock:
            return tuple(watch for _, watch in self._watches.values())

    def drift(self, watch: DriftWatch) -> dict[str, Any]:
        """What a watch says, as JSON-ready values, with thumbnails."""
        name = None if self._source is None else Path(self._source.name)
        said, pictures = watch.to_json(self._source, name), self._record.thumbnails(watch.camera or "")
        return said | {"measures": [_with_pictures(one, pictures) for one in said["measures"]]}


def _moved(watch: DriftWatch) -> list[str]:
    return [one.sha256 for measure in watch.measures.values() for one in measure.moved]


def _with_pictures(measure: Mapping[str, Any], pictures: Mapping[str, str]) -> dict[str, Any]:
    moved = [one | {"thumbnail": pictures.get(one["sha256"])} for one in measure["moved_most"]]
    return {**measure, "moved_most": moved}
