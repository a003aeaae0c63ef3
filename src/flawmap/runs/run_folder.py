"""The run folder: everything that one training leaves behind. It is never overwritten."""

import datetime
import json
from pathlib import Path
from typing import Any

from flawmap.errors import UserError
from flawmap.recipe.files import to_yaml
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text, stable_hash
from flawmap.runs.json_files import read_json

LATEST = "latest.txt"  # beside the runs: the name of the one that was started last
RECIPE = "recipe.yaml"  # of a run and of its model
MODEL, SAMPLES, EVALUATION = "model", "samples", "evaluation"
MODEL_CONFIG = "config.json"  # written last: a model without it is not complete


class RunFolder:
    """Paths inside one run folder.

    Attributes:
        path: the folder.
        recipe: the resolved recipe, itself a valid ``--recipe``.
        environment: command, seed, data, versions and machine.
        manifest: every training image with its hash and its split: :mod:`flawmap.runs.manifest`.
        log: one JSON object per training step: :mod:`flawmap.runs.training_log`.
        samples: images of what training saw: :mod:`flawmap.runs.samples`.
        model: what ``AnomalyDetector.from_pretrained`` reads: :mod:`flawmap.runs.model_folder`.
        evaluation: what ``flawmap evaluate`` writes: :mod:`flawmap.runs.evaluation`.
        report: what ``flawmap report`` writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / RECIPE
        self.environment = path / "environment.json"
        self.manifest = path / "data_manifest.csv"
        self.log = path / "log.jsonl"
        self.samples = path / SAMPLES
        self.model = path / MODEL
        self.evaluation = path / EVALUATION
        self.report = path / "report.html"

    @property
    def is_started(self) -> bool:
        """Whether training has begun here."""
        return self.log.is_file() or self.manifest.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether training reached its end."""
        return (self.model / MODEL_CONFIG).is_file()

    def checkpoint(self, stage: str) -> Path:
        """State from which an interrupted stage resumes; removed when the stage is done."""
        return self.path / "checkpoints" / f"{stage}.ckpt"

    def stage_output(self, stage: str) -> Path:
        """Result of a finished stage."""
        return self.path / "checkpoints" / f"{stage}.safetensors"

    def shared_stage(self, stage: str, key: str) -> Path:
        """The same result where other runs find it, by the hash of what determines it."""
        return self.path.parent / "stages" / f"{stage}-{key[:16]}.safetensors"

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Write environment.json."""
        atomic_write_text(self.environment, json.dumps(environment, indent=2))

    def read_environment(self) -> dict[str, Any]:
        """The content of environment.json; empty where there is none.

        Raises:
            UserError: the file is damaged.
        """
        return read_json(self.environment, dict, "train again") if self.environment.is_file() else {}


def create_run(requested: Path | None, data_name: str, recipe: Recipe, parent: Path = Path("runs")) -> RunFolder:
    """A new run folder: ``requested``, or ``runs/DATE_DATA_HASH``; a taken name gets a number.

    Raises:
        UserError: it cannot be created.
    """
    today = datetime.date.today().isoformat()
    wanted = requested or parent / f"{today}_{data_name}_{stable_hash(recipe)[:4]}"
    if wanted.name in ("", ".."):  # a number could not be added to "." or ".."
        wanted = wanted.resolve()
    path, number = wanted, 2
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
                break
            except FileExistsError:
                path, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    except (OSError, ValueError) as error:  # ValueError: the root has no name to number
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"the run folder cannot be created: {reason}", str(path), "--run DIR") from error
    run = RunFolder(path)
    atomic_write_text(run.recipe, to_yaml(recipe))
    atomic_write_text(path.parent / LATEST, path.name + "\n")
    return run


def open_run(path: Path) -> RunFolder:
    """An existing run folder.

    Raises:
        UserError: it does not exist or holds no recipe.
    """
    run = RunFolder(path)
    if not run.recipe.is_file():
        latest = latest_run(path.parent)
        hint = f"flawmap train DATA first, or use {latest}" if latest else "flawmap train DATA first"
        problem = f"this is not a run folder: it has no {RECIPE}" if path.is_dir() else f"no such folder: {path}"
        raise UserError(problem, str(path), hint)
    return run


def latest_run(parent: Path = Path("runs")) -> Path | None:
    """The run that was started last in ``parent``, if its folder still exists."""
    pointer = parent / LATEST
    if not pointer.is_file():
        return None
    path = parent / pointer.read_text(encoding="utf-8").strip()
    return path if path.is_dir() else None
