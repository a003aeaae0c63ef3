"""Jobs: flawmap's own commands, each in a process of its own that outlives the page and the studio."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from flawmap import advice
from flawmap.errors import UserError
from flawmap_studio.lists import PlannedFile
from flawmap_studio.place import Place
from flawmap_studio.progress import LogLine, Progress, progress_of, read_log
from flawmap_studio.run_job import CANCEL, DETACH, JOB, LOCK, LOG, RESULT
from flawmap_studio.state import State, now

JobState = Literal["running", "done", "failed", "cancelled"]
BEGINNING_SECONDS = 20.0  # in which the process of a job writes the first line of its log
CHECK_FAILED = 1  # the exit code of a command that ran to its end, and whose answer is no


@dataclass(frozen=True)
class Order:
    """A command that may be run.

    Attributes:
        kind: of the job, such as ``train``.
        title: for people.
        words: of the command line, from ``flawmap`` on; paths are relative to the studio's folder.
        facts: what the pages need to know about it, such as the run that it makes.
        files: that it reads and that are not there yet.
        advice: what the person should know before it starts.
    """

    kind: str
    title: str
    words: Sequence[str]
    facts: dict[str, Any] = field(default_factory=dict)
    files: Sequence[PlannedFile] = ()
    advice: Sequence[str] = ()

    @property
    def command(self) -> str:
        """For a shell, in the studio's folder."""
        return advice.command(*self.words)


@dataclass(frozen=True)
class Job:
    """A command that was started.

    Attributes:
        answer: what it printed as JSON; None where it printed none.
        problem: why it failed: problem, place and remedy; None where it did not.
        lines: the last lines of what it said.
    """

    id: int
    kind: str
    title: str
    command: str
    facts: dict[str, Any]
    at: float
    state: JobState
    progress: Progress | None
    seconds: float | None
    answer: Any
    problem: dict[str, str] | None
    lines: list[str]


class Jobs:
    """All jobs of a studio; one runs at a time, because each uses all cores."""

    def __init__(self, place: Place, state: State) -> None:
        self._place, self._state = place, state
        self._folder = place.own / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._finished: dict[int, Job] = {}
        self._starting = threading.Lock()

    def start(self, order: Order) -> Job:
        """Run a command, detached.

        Raises:
            UserError: another job runs.
        """
        with self._starting:
            if running := self.running():
                problem = f"a job runs already: {running.title}"
                raise UserError(problem, "", "wait until it is done, or cancel it")
            return self._started(order)

    def _started(self, order: Order) -> Job:
        for file in order.files:
            file.write(self._place)
        values = order.kind, order.title, order.command, json.dumps(order.facts), now()
        number = self._state.insert("INSERT INTO jobs VALUES (NULL, ?, ?, ?, ?, ?)", values)
        folder = self._folder / str(number)
        folder.mkdir(exist_ok=True)
        # -P: files in the studio's folder are no modules
        process = [sys.executable, "-P", "-m", *order.words]
        (folder / JOB).write_text(json.dumps({"process": process, "cwd": str(self._place.root)}), encoding="utf-8")
        subprocess.run([sys.executable, "-P", "-m", "flawmap_studio.run_job", DETACH, str(folder)], check=True)
        _wait_for_beginning(folder)
        return self.of(number)

    def cancel(self, number: int) -> None:
        """Ask a job to stop, as Ctrl-C would; what it has finished stays."""
        if self.of(number).state == "running":
            (self._folder / str(number) / CANCEL).touch()

    def running(self) -> Job | None:
        """The job that runs now."""
        return next((job for job in self.recent(5) if job.state == "running"), None)

    def recent(self, count: int = 20) -> list[Job]:
        """The last jobs, newest first."""
        return [self._job(row) for row in self._state.ask("SELECT * FROM jobs ORDER BY id DESC LIMIT ?", (count,))]

    def last(self, kind: str) -> Job | None:
        """The last job of a kind that is done."""
        for row in self._state.ask("SELECT * FROM jobs WHERE kind = ? ORDER BY id DESC", (kind,)):
            if (job := self._job(row)).state == "done":
                return job
        return None

    def of(self, number: int) -> Job:
        """One job.

        Raises:
            UserError: there is none of this number.
        """
        found = self._state.ask("SELECT * FROM jobs WHERE id = ?", (number,))
        if not found:
            raise UserError("there is no such job", str(number), "look at the list of jobs again")
        return self._job(found[0])

    def _job(self, row: tuple[Any, ...]) -> Job:
        number, kind, title, command, facts, at = row
        if number in self._finished:
            return self._finished[number]
        folder = self._folder / str(number)
        is_running, result = is_held(folder), _read(folder / RESULT)  # in this order: the result is written last
        lines, facts = read_log(folder / LOG), json.loads(facts)
        texts = [line.text for line in lines]
        begins = result is None and now() - at < BEGINNING_SECONDS and not (folder / LOG).exists()
        if is_running or begins:
            progress = progress_of(kind, lines, facts, now() - at)
            return Job(number, kind, title, command, facts, at, "running", progress, None, None, None, texts[-60:])
        if result is None:
            ended = {"problem": "the job was ended from outside", "place": "", "remedy": "start it again"}
            return Job(number, kind, title, command, facts, at, "failed", None, None, None, ended, texts[-60:])
        code = result["exit_code"]
        state: JobState = "cancelled" if result["cancelled"] else "done" if code in (0, CHECK_FAILED) else "failed"
        problem = _problem(lines, code) if state == "failed" else None
        answer = _answer(lines)
        job = Job(number, kind, title, command, facts, at, state, None, result["seconds"], answer, problem, texts[-60:])
        self._finished[number] = job
        return job


def is_held(folder: Path) -> bool:
    """Whether the process of a job lives."""
    if not folder.is_dir():
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _wait_for_beginning(folder: Path) -> None:
    """Until the job holds its lock or is done, so that nobody takes it for dead."""
    deadline = time.monotonic() + BEGINNING_SECONDS
    while time.monotonic() < deadline and not (folder / LOG).exists():
        time.sleep(0.02)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _answer(lines: Sequence[LogLine]) -> Any:
    printed = [line.text for line in lines if line.is_output]
    try:
        return json.loads(printed[-1]) if printed else None
    except ValueError:
        return None


def _problem(lines: Sequence[LogLine], code: int) -> dict[str, str]:
    """What the command said: ``error: ...``, then lines with ``at:`` and ``remedy:``."""
    said = [line.text for line in lines if not line.is_output]
    start = max((number for number, text in enumerate(said) if text.startswith("error: ")), default=None)
    if start is None:
        last = said[-1] if said else f"the command ended with code {code}"
        return {"problem": last, "place": "", "remedy": "look at what the job said"}
    parts = {"problem": [said[start].removeprefix("error: ")], "place": [], "remedy": []}
    into = "problem"
    for text in said[start + 1 :]:
        stripped = text.strip()
        if stripped.startswith("at: "):
            into, stripped = "place", stripped.removeprefix("at: ")
        elif stripped.startswith("remedy: "):
            into, stripped = "remedy", stripped.removeprefix("remedy: ")
        parts[into].append(stripped)
    return {name: os.linesep.join(texts) for name, texts in parts.items()}
