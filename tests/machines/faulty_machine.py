"""A small world with a trained run, commands in forked processes, and what must hold in the world after any fault.

Everything is imported before a process is forked, so that a command takes a fraction of a second.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from flawmap.cli import main
from flawmap.deploy.reviews import read_reviews
from flawmap.detect.detector import AnomalyDetector
from flawmap.report.html import write_report
from flawmap.runs.evaluation import read_evaluation
from images import write_category
from tiny_detector import write_tiny_recipe

PROBLEM_WORDS = ("Traceback", "a bug in flawmap")


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code, -9 after SIGKILL, and what it printed."""

    code: int
    words: str
    seconds: float


def run(
    words: list[str], world: Path, kill_after_s: float | None = None, before: Callable[[], None] | None = None
) -> Done:
    """``flawmap WORDS`` in a process of its own, with ``world`` as its current folder.

    Args:
        words: of the command.
        world: the folder.
        kill_after_s: seconds after which SIGKILL ends it.
        before: called in the new process first.
    """
    printed = world.with_name(world.name + "-printed.txt")
    printed.write_text("")  # the process may be killed before it opens the file
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        code = 99
        with contextlib.suppress(BaseException):
            os.chdir(world)
            to = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(to, 1)
            os.dup2(to, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            if before:
                before()
            code = main(words)
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    if kill_after_s is not None:
        while (
            time.monotonic() - started < kill_after_s
            and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        ):
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return Done(os.waitstatus_to_exitcode(status), printed.read_text(errors="replace"), time.monotonic() - started)


def make_world(folder: Path) -> Path:
    """Data, a trained and evaluated run, and a recipe."""
    torch.set_num_threads(1)
    write_category(folder / "tile")
    write_tiny_recipe(folder / "tiny.yaml")
    for words in COMMANDS["train"], COMMANDS["evaluate"]:
        words = ["runs/first" if word == "runs/new" else word for word in words]
        done = run(words, folder)
        assert done.code == 0, done.words
    shutil.rmtree(folder / "runs" / "stages")  # else the next training would begin with finished stages
    return folder


def copy_of(world: Path, target: Path) -> Path:
    """A copy of the world, to be broken."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(world, target, symlinks=True)
    return target


COMMANDS: dict[str, list[str]] = {
    "train": ["train", "tile", "--recipe", "tiny.yaml", "--run", "runs/new", "--device", "cpu"],
    "detect": ["detect", "tile/test/hole", "--model", "runs/first", "--output", "out", "--device", "cpu"],
    "evaluate": ["evaluate", "runs/first", "tile", "--device", "cpu"],
    "calibrate": ["calibrate", "runs/first", "tile/test/good", "--device", "cpu"],
    "report": ["report", "runs/first"],
    "check": ["check", "tile", "--gallery", "--output", "gallery.html", "--recipe", "tiny.yaml", "--images", "2"],
    "export": ["export", "runs/first", "--to", "onnx", "--output", "model.onnx", "--images", "tile/test/good"],
}


def again(verb: str, world: Path) -> list[str]:
    """The command that a user gives after an interruption."""
    if verb == "train" and (world / "runs" / "new" / "log.jsonl").exists():
        return ["train", "tile", "--run", "runs/new", "--resume", "--device", "cpu"]
    if verb == "train":
        return [*COMMANDS["train"][:-3], "runs/other", "--device", "cpu"]
    if verb == "detect" and (world / "out").exists():
        return [*COMMANDS["detect"], "--resume"]
    return COMMANDS[verb]


def weights_of(run_folder: Path) -> str:
    """The hash of a run's weights."""
    return sha256((run_folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def check_finished_work(world: Path, expected: "Expected") -> None:
    """What was finished before the fault is whole: the first run, its evaluation, its report, reviews."""
    detector = AnomalyDetector.from_pretrained(world / "runs" / "first", "cpu")
    assert weights_of(world / "runs" / "first") == expected.weights
    assert detector.calibration_ is not None and detector.calibration_.threshold in expected.thresholds
    evaluation = read_evaluation(world / "runs" / "first" / "evaluation")
    assert evaluation is not None and evaluation.image_auroc == expected.image_auroc
    report = (world / "runs" / "first" / "report.html").read_text(encoding="utf-8")
    assert report.rstrip().endswith("</html>")
    write_report(world / "runs" / "first")
    if (world / "reviews.csv").exists():
        read_reviews(world / "reviews.csv")
    for path in world.rglob("*.json"):
        json.loads(path.read_bytes())  # no file is torn
    for name in ("gallery.html",):
        if (world / name).exists():
            assert (world / name).read_text(encoding="utf-8").rstrip().endswith("</html>")
    if (world / "model.onnx").exists():
        from flawmap.deploy.runtime import load

        load(world / "model.onnx")


def check_after_repeating(verb: str, world: Path, expected: "Expected") -> None:
    """After the command has been given again, its result is that of an undisturbed one."""
    check_finished_work(world, expected)
    if verb == "train":
        runs = [path for path in (world / "runs").iterdir() if (path / "model" / "config.json").exists()]
        assert len(runs) >= 2
        assert {weights_of(path) for path in runs} == {expected.weights}
    if verb == "detect":
        (folder,) = {path.parent for path in world.glob("out*/result.json")}
        result = json.loads((folder / "result.json").read_text())
        scores = {image["image"]: image["score"] for image in result["images"]}
        assert result["complete"] and len(result["images"]) == len(scores)
        assert scores == expected.scores
        assert all((world / image["overlay"]).is_file() for image in result["images"])


@dataclass(frozen=True)
class Expected:
    """Of a world without faults.

    Attributes:
        weights: hash of the run's weights.
        thresholds: before and after the calibration.
        image_auroc: of the evaluation.
        scores: of the images in test/hole.
        seconds: how long each command takes.
    """

    weights: str
    thresholds: tuple[float, ...]
    image_auroc: float | None
    scores: dict[str, float]
    seconds: dict[str, float]


def undisturbed(world: Path, verbs: tuple[str, ...]) -> Expected:
    """Run each command once in a copy of the world."""
    place = world.with_name("undisturbed")
    detector = AnomalyDetector.from_pretrained(world / "runs" / "first", "cpu")
    assert detector.calibration_ is not None
    thresholds, seconds, scores = [detector.calibration_.threshold], {}, {}
    for verb in verbs:
        copy_of(world, place)
        done = run(COMMANDS[verb], place)
        assert done.code == 0, f"{verb}: {done.words}"
        seconds[verb] = done.seconds
        calibration = AnomalyDetector.from_pretrained(place / "runs" / "first", "cpu").calibration_
        assert calibration is not None
        thresholds.append(calibration.threshold)
        if verb == "detect":
            result = json.loads((place / "out" / "result.json").read_text())
            scores = {image["image"]: image["score"] for image in result["images"]}
    evaluation = read_evaluation(world / "runs" / "first" / "evaluation")
    assert evaluation is not None
    return Expected(weights_of(world / "runs" / "first"), tuple(thresholds), evaluation.image_auroc, scores, seconds)
