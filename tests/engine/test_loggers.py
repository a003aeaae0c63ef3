"""What TensorBoard, MLflow and Weights & Biases get of a training is what the run's own log says."""

import importlib.util
import io
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flawmap import AnomalyDetector, UserError
from flawmap.advice import install
from flawmap.cli import main
from flawmap.engine.loggers import LOGGER_NAMES, Loggers, opened_loggers, refuse_missing_loggers
from flawmap.runs.run_folder import RunFolder, create_run
from flawmap.runs.samples import read_samples
from flawmap.runs.training_log import LogFile
from images import write_good
from tiny_detector import tiny_recipe, write_tiny_recipe

SMALL = ("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=3", "residual.simulated_images=10")
ON_TOKENS = ("method=fused", "data.tiles=none", "pretrain.enabled=false", *SMALL)


class Remembered:
    """A logger of another kind, which keeps what it gets."""

    def __init__(self) -> None:
        self.numbers: list[tuple[int, dict[str, float]]] = []
        self.recipe: dict[str, Any] = {}

    def log_metrics(self, numbers: dict[str, float], step: int) -> None:
        self.numbers.append((step, numbers))

    def log_hyperparams(self, recipe: dict[str, Any]) -> None:
        self.recipe = recipe


def expected_numbers(run: RunFolder) -> dict[tuple[str, int], float]:
    """Of log.jsonl: by name and step."""
    about = ("stage", "step", "epoch", "steps")
    return {
        (f"{record['stage']}/{name}", record["step"]): float(value)
        for record in LogFile(run.log).records()
        for name, value in record.items()
        if name not in about and isinstance(value, int | float)
    }


def scalars_of(folder: Path) -> dict[tuple[str, int], float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return {(name, one.step): one.value for name in events.Tags()["scalars"] for one in events.Scalars(name)}


def check_tensorboard(run: RunFolder, detector: AnomalyDetector) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run.path.parent / "tensorboard" / run.path.name
    found, expected = scalars_of(folder), expected_numbers(run)
    assert len(expected) > 4
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    calibration = detector.calibration_
    assert calibration is not None
    assert found["result/threshold", 0] == pytest.approx(calibration.threshold)
    assert found["result/simulated_image_auroc", 0] == pytest.approx(detector.proxy_.image_auroc)
    events = EventAccumulator(str(folder), {"images": 0})
    events.Reload()
    rows = read_samples(run.samples)
    pictures = {f"samples/{column}/{row.number}": file for row in rows for column, file in row.files.items()}
    assert set(events.Tags()["images"]) == set(pictures) and pictures
    first = next(iter(pictures))

    with (
        Image.open(io.BytesIO(events.Images(first)[0].encoded_image_string)) as ours,
        Image.open(pictures[first]) as own,
    ):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(own.convert("RGB")))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [(), ON_TOKENS], ids=["on Lightning", "on tokens"])
def test_tensorboard_gets_numbers_pictures_and_the_recipe(changes: Sequence[str], tmp_path: Path) -> None:
    recipe, other = tiny_recipe(*changes), Remembered()
    run = create_run(tmp_path / "runs" / "one", "good", recipe)
    detector = AnomalyDetector(recipe).fit(write_good(tmp_path / "good"), run, "cpu", loggers=["tensorboard"])
    check_tensorboard(run, detector)
    with opened_loggers([], run) as opened:
        assert opened == Loggers([])
    loggers = Loggers([other])  # type: ignore[list-item]
    loggers.metrics({"loss": 0.5, "words": "x"}, 3, "residual")  # type: ignore[dict-item]
    assert other.numbers == [(3, {"residual/loss": 0.5})]


@pytest.mark.slow
def test_the_command_writes_to_mlflow_and_wandb_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write_good(Path("parts"))
    write_tiny_recipe(Path("tiny.yaml"), *ON_TOKENS)
    words = ["train", "parts", "--recipe", "tiny.yaml", "--run", "runs/a", "--device", "cpu"]
    script = [sys.executable, "-m", "flawmap", *words, "--logger", "mlflow", "--logger", "wandb"]
    # in a process of its own: these packages warn of their own deprecations, and wandb keeps a service running
    done = subprocess.run(script, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "gets nothing more" not in done.stderr
    with sqlite3.connect("runs/mlflow.db") as database:
        rows = database.execute("select key, step, value from metrics").fetchall()
        recipe = dict(database.execute("select key, value from params").fetchall())
    found = {(key, step): value for key, step, value in rows}
    expected = expected_numbers(RunFolder(Path("runs/a")))
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert recipe["memory/tokens"] == "40" and recipe["method"] == "fused"
    assert len([*Path("runs/mlflow-artifacts").rglob("*.png")]) == len([*Path("runs/a/samples").glob("*.png")])
    (offline,) = Path("runs/wandb").glob("offline-run-*")
    assert [file.suffix for file in offline.glob("*.wandb")] == [".wandb"]
    assert len([*offline.rglob("*.png")]) == len([*Path("runs/a/samples").glob("*.png")])


def test_a_logger_that_fails_costs_no_training(capsys: pytest.CaptureFixture[str]) -> None:
    class Down(Remembered):
        def log_metrics(self, numbers: dict[str, float], step: int) -> None:
            raise ConnectionError("no route to host\nmore")

    down, up = Down(), Remembered()
    loggers = Loggers([down, up])  # type: ignore[list-item]
    for step in range(2):
        loggers.metrics({"loss": 1.0}, step, "finetune")
    assert [step for step, _ in up.numbers] == [0, 1] and loggers.of_lightning == [up]
    said = capsys.readouterr().err
    assert said.count("Down gets nothing more: ConnectionError: no route to host") == 1


@pytest.mark.parametrize("name", LOGGER_NAMES)
def test_a_missing_logger_is_named_before_anything_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("flawmap.engine.loggers.find_spec", lambda one: None if one == name else real(one))
    assert main(["train", str(write_good(tmp_path / "good", 3)), "--logger", name, "--run", str(tmp_path / "a")]) == 2
    said = capsys.readouterr().err
    assert f"the logger {name} needs the extra {name}: the package {name} is not installed" in said
    assert f"remedy: {install(name)}" in said and not (tmp_path / "a").exists()


def test_an_unknown_logger_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path), "--logger", "tensorbord"]) == 2
    assert "did you mean tensorboard?" in capsys.readouterr().err
    with pytest.raises(UserError, match="no logger 'csv'"):
        refuse_missing_loggers(["csv"])  # type: ignore[list-item]
