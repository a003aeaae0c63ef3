"""A server changes to the model on disk without losing a request; what is torn or broken never takes over."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import FACTS, BrightnessModel, gray_png, serving

from flawmap.deploy import rolling_change
from flawmap.deploy.current_model import CurrentModel
from flawmap.deploy.opened_model import open_model
from flawmap.deploy.rolling_change import RollingChange
from flawmap.deploy.work_queue import WorkQueue
from flawmap.errors import UserError
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.self_test import SelfTest
from flawmap.runs.updates import make_current
from images import striped
from tiny_detector import fitted_detector

NEWER = replace(FACTS, weights_sha256="cd" * 32, calibration=replace(FACTS.calibration, threshold=70.0))
GRAY = np.full((4, 4, 3), 80, np.uint8)


class Server:
    """A change in front of a queue, with a file that stands for the model."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "model.onnx"
        self.source.write_bytes(b"old")
        self.opens: Callable[[], BrightnessModel] = lambda: BrightnessModel(NEWER)
        self.num_opened = 0
        self.current = CurrentModel(BrightnessModel(), self.source)
        self.work = WorkQueue(self.current, 4, 1_000_000)
        self.change = RollingChange(self.current, self.work, self._open)

    def _open(self) -> BrightnessModel:
        self.num_opened += 1
        return self.opens()

    def replaced(self, content: bytes = b"newer") -> "Server":
        new = self.source.with_name("new")
        new.write_bytes(content)
        new.replace(self.source)
        return self

    def looks(self, times: int) -> list[bool]:
        return [self.change.look() for _ in range(times)]

    @property
    def threshold(self) -> float | None:
        return self.current.predict_many([GRAY])[0].threshold


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.work.close()


def test_the_newer_model_takes_over_and_says_so(server: Server, capsys: pytest.CaptureFixture[str]):
    assert server.looks(2) == [False, False] and server.num_opened == 0
    server.replaced()
    server.current.refresh()
    assert server.current.behind == "another model is on disk now, and not in use yet" and server.threshold == 100
    assert server.looks(3) == [False, True, False] and server.num_opened == 1
    assert (server.threshold, server.current.facts, server.current.behind) == (70, NEWER, "")
    assert f"{FACTS.model_id} is replaced by {NEWER.model_id}" in capsys.readouterr().err


def test_a_file_that_still_grows_is_not_opened(server: Server):
    for size in range(1, 5):
        server.replaced(b"n" * size)
        assert server.change.look() is False
    assert server.num_opened == 0 and server.change.look() is True


def test_a_file_that_is_replaced_while_it_is_opened_does_not_take_over(server: Server):
    def opens() -> BrightnessModel:
        server.replaced(b"the newest")
        return BrightnessModel(NEWER)

    server.opens = opens
    assert server.replaced().looks(2) == [False, False] and server.threshold == 100
    server.opens = lambda: BrightnessModel(NEWER)
    assert server.looks(2) == [False, True] and server.threshold == 70


def refusing() -> BrightnessModel:
    raise UserError("the file is damaged", "model.onnx", "export it again")


def failing() -> BrightnessModel:
    test = SelfTest(score=-5.0, map_peak=1.0, tolerance=0.001, map_tolerance=1.0)
    return BrightnessModel(replace(NEWER, self_test=test))


@pytest.mark.parametrize(
    ("opens", "reason"), [(refusing, "the file is damaged"), (failing, "the model failed its self-test: score ")]
)
def test_a_bad_model_never_takes_over_and_is_opened_once(server: Server, opens, reason: str):
    server.opens = opens
    assert server.replaced().looks(5) == [False] * 5 and server.num_opened == 1
    assert server.current.behind.startswith(f"another model is on disk now; it cannot be used: {reason}")
    assert server.threshold == 100 and server.work.health.readiness.is_ready
    server.opens = lambda: BrightnessModel(NEWER)
    assert server.replaced(b"mended").looks(2) == [False, True]
    assert (server.threshold, server.current.behind) == (70, "")


def test_a_new_threshold_file_is_a_reason_to_try_again(server: Server):
    server.opens = refusing  # as where the threshold beside the file is of other weights
    assert server.replaced().looks(3) == [False] * 3
    server.opens = lambda: BrightnessModel(NEWER)
    assert server.change.look() is False
    server.source.with_name("model.threshold.json").write_text("{}")
    assert server.change.look() is True


def test_a_model_that_was_healthy_no_more_is_replaced_by_a_healthy_one(tmp_path: Path):
    server = Server(tmp_path)
    server.current.take(failing(), server.current.in_use)
    server.work.health = rolling_change.ModelHealth(failing().facts.self_test)
    server.work.health.run_self_test(server.current)
    assert not server.work.health.readiness.is_ready
    assert server.replaced().looks(2) == [False, True]
    assert server.work.health.readiness.is_ready
    server.work.close()


def test_a_run_changes_to_its_updated_model_and_back(tmp_path: Path):
    run, image = RunFolder(tmp_path / "parts"), striped(5, 40, 56)
    run.path.mkdir()
    (run.path / "recipe.yaml").write_text("")
    fitted_detector().save_pretrained(run.path / "model")
    updated = run.path / "versions" / "update-0001" / "model"
    shutil.copytree(run.path / "model", updated)
    current = CurrentModel(open_model(run.path, "cpu"), run.path)
    work = WorkQueue(current, 4, 1_000_000)
    change = RollingChange(current, work, lambda: open_model(run.path, "cpu"))
    score = current.predict_many([image])[0].score
    for version, folder in (("update-0001", updated), (None, run.path / "model")):
        make_current(run, version)
        current.refresh()
        assert current.behind
        assert [change.look(), change.look()] == [False, True]
        assert [*current.in_use] == [folder / "model.safetensors"] and current.behind == ""
        assert current.predict_many([image])[0].score == score
    shutil.rmtree(run.path)
    assert [change.look(), change.look()] == [False, False]
    assert current.behind.startswith("another model is on disk now")
    assert current.predict_many([image])[0].score == score
    work.close()


def test_no_request_is_lost_and_no_answer_mixes_two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rolling_change, "LOOK_EVERY_S", 0.01)
    source, opened = tmp_path / "model.onnx", []
    source.write_bytes(b"0")

    def facts_of(number: int):
        calibration = replace(FACTS.calibration, threshold=100.0 + number)
        return replace(FACTS, weights_sha256=f"{number:02x}" * 32, calibration=calibration)

    def open_again() -> BrightnessModel:
        opened.append(int(source.read_bytes()))
        return BrightnessModel(facts_of(opened[-1]), seconds=0.001)

    with (
        serving(open_again(), tmp_path / "reviews.csv", source, open_again) as client,
        ThreadPoolExecutor(4) as clients,
    ):
        ends = threading.Event()

        def ask() -> list[tuple[int, str, float]]:
            found = []
            while not ends.is_set():
                answer = client.detect(gray_png(90))
                json = answer.json
                found.append((answer.status, json["model_id"], json["threshold"]))
            return found

        asking = [clients.submit(ask) for _ in range(4)]
        for number in (1, 2, 3):
            source.with_name("new").write_bytes(str(number).encode())
            source.with_name("new").replace(source)
            until = time.monotonic() + 30
            while client.get("/v1/model").json["threshold"] != 100.0 + number and time.monotonic() < until:
                time.sleep(0.01)
        ends.set()
        answers = [answer for one in asking for answer in one.result()]
        assert client.get("/v1/model").json["behind"] == "" and client.get("/readyz").status == 200
    assert opened == [0, 1, 2, 3]
    assert set(answers) == {(200, facts_of(number).model_id, 100.0 + number) for number in range(4)}
