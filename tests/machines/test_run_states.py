"""Runs in any order of train, kill, resume, calibrate, detect and serve: what was finished once stays as it is."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from faulty_machine import COMMANDS, PROBLEM_WORDS, Done, make_world, run
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked")


RUNS = st.sampled_from(["first", "second"])
MOMENTS = st.one_of(st.none(), st.floats(0.0, 3.0))  # seconds until SIGKILL; None: the command ends by itself


class Runs(RuleBasedStateMachine):
    """Commands on two runs; finished files are remembered by their hash."""

    world: Path  # made once: it is copied for each example

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="flawmap-states-"))
        self.place = self.folder / "world"
        self.finished: dict[Path, str] = {}
        self.lines: dict[Path, list[str]] = {}

    @initialize()
    def begin(self) -> None:
        shutil.copytree(self.world, self.place)

    @rule(moment=MOMENTS)
    def train(self, moment: float | None) -> None:
        self._do([*COMMANDS["train"][:-3], "runs/second", "--device", "cpu"], moment)

    @rule(moment=MOMENTS)
    def resume(self, moment: float | None) -> None:
        if (self.place / "runs" / "second" / "recipe.yaml").exists():
            self._do(["train", "tile", "--run", "runs/second", "--resume", "--device", "cpu"], moment)

    @rule(name=RUNS, moment=MOMENTS)
    def calibrate(self, name: str, moment: float | None) -> None:
        self._do(["calibrate", f"runs/{name}", "tile/test/good", "--device", "cpu"], moment, may_fail=name == "second")

    @rule(name=RUNS, moment=MOMENTS)
    def undo(self, name: str, moment: float | None) -> None:
        self._do(["calibrate", f"runs/{name}", "--undo"], moment, may_fail=True)

    @rule(name=RUNS, moment=MOMENTS, resumes=st.booleans())
    def detect(self, name: str, moment: float | None, resumes: bool) -> None:
        words = ["detect", "tile/test/hole", "--model", f"runs/{name}", "--output", f"out-{name}", "--device", "cpu"]
        self._do([*words, *["--resume"] * resumes], moment, may_fail=True)  # a new threshold refuses to resume

    @rule(name=RUNS)
    def serve(self, name: str) -> None:
        """Start a server, have an image scored, and kill it."""
        if (self.place / "runs" / name / "model" / "config.json").exists():
            image = next((self.place / "tile" / "test" / "hole").glob("*.png")).read_bytes()
            assert served_score(self.place, f"runs/{name}", image) == served_score(self.place, f"runs/{name}", image)

    def _do(self, words: list[str], moment: float | None, may_fail: bool = False) -> Done:
        done = run(words, self.place, kill_after_s=moment)
        assert not any(word in done.words for word in PROBLEM_WORDS), done.words
        if moment is None:
            assert done.code == 0 or (may_fail and done.code == 2), f"{words}: {done.words}"
        return done

    @invariant()
    def what_was_finished_stays(self) -> None:
        for path in self.place.glob("runs/*/model/model.safetensors"):
            if path.with_name("config.json").exists():
                self._same(path)
        for path in self.place.glob("out*/result.json"):
            if json.loads(path.read_bytes())["complete"]:
                assert len(json.loads(path.read_bytes())["images"]) == 6
        for path in self.place.glob("out*/results.jsonl"):
            lines = path.read_text().split("\n")[:-1]
            assert lines[: len(self.lines.get(path, []))] == self.lines.get(path, [])
            self.lines[path] = lines
        for path in self.finished:
            assert path.exists(), path

    def _same(self, path: Path) -> None:
        found = sha256(path.read_bytes()).hexdigest()
        assert self.finished.setdefault(path, found) == found

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def served_score(world: Path, model: str, image: bytes) -> float:
    """The score that ``flawmap serve`` gives an image; the server is then killed."""
    import http.client

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flawmap", "serve", model, "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(command, cwd=world, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + 120
            while time.monotonic() < until:
                with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as ask:
                    ask.request("POST", "/v1/detect", image, {"content-type": "image/png"})
                    reply = ask.getresponse()
                    answer = json.loads(reply.read())
                    if reply.status == 200:
                        return answer["score"]
                time.sleep(0.1)
            raise TimeoutError("the server gave no score in two minutes")
        finally:
            server.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("examples", "steps"), [pytest.param(1, 4, id="short"), pytest.param(30, 12, id="long", marks=pytest.mark.slow)]
)
def test_any_order_of_commands_keeps_what_was_finished(examples: int, steps: int, tmp_path: Path) -> None:
    Runs.world = make_world(tmp_path / "world")
    checks = list(HealthCheck)
    run_state_machine_as_test(
        Runs,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, database=None
        ),
    )
