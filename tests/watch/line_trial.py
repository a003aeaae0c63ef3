"""A line at work: files come at a rate, the watch is killed, the broker restarts, the webhook is slow and fails.

    python tests/watch/line_trial.py MODEL FOLDER --files 2000 --per-second 5

prints what was counted, and ends with 1 if a file has not exactly one row, or a message is missing.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from bright_line import Receiver, receiving
from mosquitto import Mosquitto, Subscriber, running

import flawmap
from flawmap.watch.webhook import signature
from images import striped, write_image

SECRET = "only of this trial"
PATIENCE_S = 180.0


@dataclass
class Trial:
    """What was counted.

    Attributes:
        files: that came.
        rows: in the journal.
        images: different files with a row.
        moved: files with their own content in the folder of their verdict.
        by_webhook: different messages that the webhook confirmed, and all.
        by_mqtt: the same of the broker.
        kills: of the watch, by SIGKILL.
        broker_restarts: while messages came.
        webhook_failures: answers of 503.
        seconds: from the first file to the last confirmed message.
    """

    files: int
    rows: int = 0
    images: int = 0
    moved: int = 0
    by_webhook: tuple[int, int] = (0, 0)
    by_mqtt: tuple[int, int] = (0, 0)
    kills: int = 0
    broker_restarts: int = 0
    webhook_failures: int = 0
    seconds: float = 0.0

    @property
    def nothing_is_missing(self) -> bool:
        numbers = self.rows, self.images, self.moved, self.by_webhook[0], self.by_mqtt[0]
        return all(number == self.files for number in numbers)


class SlowReceiver(Receiver):
    """Waits before each answer, and answers one request in ten with 503."""

    def __init__(self) -> None:
        super().__init__()
        self._generator, self.n_failures = random.Random(1), 0

    def take(self, headers: dict[str, str], body: bytes) -> int:
        with self._lock:
            delay_s, fails = self._generator.uniform(0.2, 1.2), self._generator.random() < 0.1
            self.n_failures += fails
        time.sleep(delay_s)
        if fails:
            return 503
        return super().take(headers, body)


class Watch:
    """The command in a process that can be killed."""

    def __init__(self, model: Path, folder: Path, broker_port: int, receiver: Receiver) -> None:
        words = ["watch", folder / "in", "--model", model, "--ok-to", folder / "ok", "--defect-to", folder / "defect"]
        words += ["--journal", folder / "journal.sqlite", "--webhook", receiver.address]
        words += ["--mqtt", f"127.0.0.1:{broker_port}", "--mqtt-topic", "line", "--settle", "0.5"]
        self._command = [sys.executable, "-m", "flawmap", *map(str, words)]
        source = str(Path(flawmap.__file__).parents[1])
        self._environment = os.environ | {"PYTHONPATH": source, "FLAWMAP_WEBHOOK_SECRET": SECRET}
        self._log = (folder / "watch.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log, env=self._environment)

    def kill(self) -> None:
        assert self._process is not None and self._process.poll() is None, "the watch has ended by itself"
        self._process.kill()
        self._process.wait()

    def leave_nothing(self) -> None:
        """After a failure of the trial."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)


def feed(folder: Path, n_files: int, per_second: float, staging: Path) -> None:
    """Files in time; every second one is moved in, the others are written slowly."""
    started = time.monotonic()
    for number in range(n_files):
        time.sleep(max(0.0, started + number / per_second - time.monotonic()))
        pixels = striped(number)
        if number % 7 == 0:
            pixels[8:40, 10:40] = np.random.default_rng(number).integers(0, 256, (32, 30, 3))
        path = write_image(staging / f"{number:05d}.png", pixels)
        if number % 2:
            path.rename(folder / path.name)
        else:
            data = path.read_bytes()
            with (folder / path.name).open("wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                time.sleep(0.02)
                file.write(data[len(data) // 2 :])
            path.unlink()


def trial(model: Path, folder: Path, n_files: int, per_second: float, seed: int = 0) -> Trial:
    """Run it; kills come every 8 to 16 seconds, restarts of the broker every 10 to 20."""
    generator, found = random.Random(seed), Trial(n_files)
    for name in ("in", "staging"):
        (folder / name).mkdir(parents=True)
    feeding = threading.Thread(target=feed, args=(folder / "in", n_files, per_second, folder / "staging"))
    with running(folder / "broker") as broker, receiving(SlowReceiver()) as receiver, ExitStack() as after:
        reader, watch = Subscriber(broker.port, "line/verdict"), Watch(model, folder, broker.port, receiver)
        after.callback(reader.close)
        after.callback(watch.leave_nothing)
        started = time.monotonic()
        watch.start()
        feeding.start()
        next_kill, next_restart = generator.uniform(4, 8), generator.uniform(3, 6)
        while not _is_done(folder, n_files) or feeding.is_alive():
            assert time.monotonic() - started < n_files / per_second + PATIENCE_S, "it does not end"
            time.sleep(0.1)
            now = time.monotonic() - started
            if feeding.is_alive() and now >= next_kill:
                watch.kill()
                watch.start()
                found.kills, next_kill = found.kills + 1, now + generator.uniform(8, 16)
            if feeding.is_alive() and now >= next_restart:
                _restart(broker, generator)
                found.broker_restarts, next_restart = found.broker_restarts + 1, now + generator.uniform(10, 20)
        found.seconds = round(time.monotonic() - started, 1)
        assert watch.stop() == 0
        reader.wait_for(lambda got: len({json.loads(body)["id"] for _, body in got}) >= n_files)
        _count(found, folder, receiver, [json.loads(body)["id"] for _, body in reader.got])
    return found


def _restart(broker: Mosquitto, generator: random.Random) -> None:
    broker.stop()
    time.sleep(generator.uniform(0.2, 2.5))
    broker.start()


def _is_done(folder: Path, n_files: int) -> bool:
    if not (folder / "journal.sqlite").exists():
        return False
    with closing(sqlite3.connect(folder / "journal.sqlite", timeout=30)) as db:
        try:
            (n_delivered,) = db.execute("SELECT count(*) FROM outbox WHERE delivered_utc IS NOT NULL").fetchone()
            (n_moved,) = db.execute("SELECT count(*) FROM images WHERE moved_to IS NOT NULL").fetchone()
        except sqlite3.OperationalError:  # the tables are not there yet
            return False
    return n_delivered >= 2 * n_files and n_moved >= n_files


def _count(found: Trial, folder: Path, receiver: SlowReceiver, by_mqtt: list[str]) -> None:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        rows = db.execute("SELECT id, image, sha256, is_anomalous, moved_to FROM images").fetchall()
    ids = {row[0] for row in rows}
    found.rows, found.images = len(rows), len({row[1] for row in rows})
    for _, _, sha256, is_anomalous, moved_to in rows:
        path = Path(moved_to)
        is_right = path.parent.name == ("defect" if is_anomalous else "ok")
        found.moved += is_right and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    for headers, body in receiver.got:
        signed = signature(SECRET.encode(), headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        assert headers["webhook-signature"] == signed and json.loads(body)["id"] == headers["webhook-id"]
    found.by_webhook = len(ids & set(receiver.ids)), len(receiver.ids)
    found.by_mqtt = len(ids & set(by_mqtt)), len(by_mqtt)
    found.webhook_failures = receiver.n_failures
    assert not list((folder / "in").iterdir()) and ids >= set(receiver.ids) | set(by_mqtt)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path, help="empty or new")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--per-second", type=float, default=5.0)
    arguments = parser.parse_args()
    result = trial(arguments.model, arguments.folder, arguments.files, arguments.per_second)
    print(json.dumps(asdict(result)))
    sys.exit(0 if result.nothing_is_missing else 1)
