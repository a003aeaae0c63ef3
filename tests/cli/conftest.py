"""The command line in this process, and a run that was really trained by it, once."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assertions import files_and_bytes
from flawmap import AnomalyDetector
from flawmap.cli import main
from flawmap.recipe.files import to_yaml
from images import write_category
from tiny_detector import tiny_recipe


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of stdout as one JSON document, read strictly."""
        return json.loads(self.out, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def command(*words: object) -> Result:
    """``flawmap WORDS`` in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(word) for word in words])
    return Result(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Trained:
    """A finished run: its folder, its data and their bytes before training, its recipe, and the command's output."""

    run: Path
    data: Path
    bytes_before: dict[str, bytes]
    recipe: Path
    result: Result


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained once; tests must not change it."""
    root = tmp_path_factory.mktemp("trained")
    data = write_category(root / "tile")
    recipe = root / "tiny.yaml"
    recipe.write_text(to_yaml(tiny_recipe()), encoding="utf-8")
    run = root / "runs" / "first"
    before = files_and_bytes(data)
    result = command("train", data, "--recipe", recipe, "--run", run, "--device", "cpu")
    assert result.code == 0, result.err
    return Trained(run, data, before, recipe, result)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``cli("detect", path, ...)`` in an empty current folder."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return command


@pytest.fixture
def run_copy(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the trained run, to be changed."""
    return Path(shutil.copytree(trained.run, tmp_path / "runs" / "copy"))


def set_threshold(run: Path, threshold: float, map_threshold: float) -> None:
    """Move a run's thresholds, so that a test decides what is anomalous."""
    path = run / "model" / "calibration.json"
    values = json.loads(path.read_text())
    scale = {"low": map_threshold - abs(map_threshold), "high": map_threshold + abs(map_threshold)}
    changes = {"threshold": threshold, "map_threshold": map_threshold, "map_scale": scale}
    path.write_text(json.dumps(values | changes))


@pytest.fixture
def alarmed_run(run_copy: Path) -> Path:
    """A run whose threshold every image is above."""
    set_threshold(run_copy, -1e6, -1e6)
    return run_copy


@pytest.fixture
def calm_run(run_copy: Path) -> Path:
    """A run whose threshold no image is above."""
    set_threshold(run_copy, 1e6, 1e6)
    return run_copy


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if any image is scored."""

    def analyse(*_: object) -> None:
        raise AssertionError("an image was scored")

    monkeypatch.setattr(AnomalyDetector, "analyse_many", analyse)
