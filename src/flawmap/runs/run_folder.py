"""The run folder: everything that one training leaves behind. It is never overwritten."""

import datetime
import json
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from flawmap.advice import command
from flawmap.errors import UserError
from flawmap.recipe.files import to_yaml
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text, stable_hash
from flawmap.runs.file_names import possible_name
from flawmap.runs.json_files import read_json

LATEST = "latest.txt"  # beside the runs: the name of the one whose training was finished last
RECIPE = "recipe.yaml"  # of a run and of its model
MODEL, SAMPLES, UNUSUAL, EVALUATION = "model", "samples", "unusual", "evaluation"
WEIGHTS = "model.safetensors"
MODEL_CONFIG = "config.json"  # written last: a model without it is not complete
STARTED, FINISHED = "started", "finished"  # in environment.json: when the training began, and when it had its result
CURRENT = "current.txt"  # in a run that was updated: the version that its model is of
VERSIONS = "versions"  # of a run or a model: what was changed after the training
UPDATE = r"update-\d{4,}"  # names of folders in versions/ of a run
DEFECTS = "defects"  # in environment.json: where the known defects are that the training learned from
SKIPS_UNREADABLE = "skip_unreadable"  # in environment.json: whether files that cannot be decoded were left out


class RunFolder:
    """Paths inside one run folder.

    Attributes:
        path: the folder.
        recipe: the resolved recipe, itself a valid ``--recipe``.
        environment: command, seed, data, versions and machine.
        log: one JSON object per training step: :mod:`flawmap.runs.training_log`.
        samples: images of what training saw: :mod:`flawmap.runs.samples`.
        known_defects: scores of known defects: :mod:`flawmap.runs.known_defects`.
        unusual: good images that look unusual: :mod:`flawmap.runs.unusual`.
        trained: the model that the training made.
        report: what ``flawmap report`` writes.

    A run that was updated has newer models beside the trained one, each with its images and its evaluation in a run
    folder of its own: :mod:`flawmap.runs.updates`. ``model``, ``manifest`` and ``evaluation`` are those of the current.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe: Path = path / RECIPE
        self.environment: Path = path / "environment.json"
        self.log: Path = path / "log.jsonl"
        self.samples: Path = path / SAMPLES
        self.unusual: Path = path / UNUSUAL
        self.known_defects: Path = path / "known_defects.json"
        self.trained: Path = path / MODEL
        self.report: Path = path / "report.html"

    @property
    def version(self) -> str | None:
        """The folder in versions/ that the current model is in; None for what the training made.

        Raises:
            UserError: that is not there, or not a name.
        """
        pointer = self.path / CURRENT
        try:
            name = pointer.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            name = ""
        if not re.fullmatch(UPDATE, name) or not (self.path / VERSIONS / name / MODEL).is_dir():
            problem = "the current version of this run is not there"
            remedy = (
                f"copy versions/ of the run again; or remove {shlex.quote(str(pointer))} to return to the training's"
            )
            raise UserError(problem, str(pointer), remedy)
        return name

    @property
    def current(self) -> Path:
        """The run folder of the current model: this one, or that of the last update in it."""
        return self.path if (version := self.version) is None else self.path / VERSIONS / version

    @property
    def model(self) -> Path:
        """What ``AnomalyDetector.from_pretrained`` reads: :mod:`flawmap.runs.model_folder`."""
        return self.current / MODEL

    @property
    def manifest(self) -> Path:
        """Every training image with its hash and its split: :mod:`flawmap.runs.manifest`."""
        return self.current / "data_manifest.csv"

    @property
    def evaluation(self) -> Path:
        """What ``flawmap evaluate`` writes: :mod:`flawmap.runs.evaluation`."""
        return self.current / EVALUATION

    @property
    def is_started(self) -> bool:
        """Whether training has begun here."""
        return self.log.is_file() or (self.path / "data_manifest.csv").is_file()

    @property
    def has_results(self) -> bool:
        """Whether training has left anything here that a resumed training would use."""
        return self.is_finished or self.log.is_file() or self.checkpoint("").parent.is_dir()

    @property
    def is_finished(self) -> bool:
        """Whether training reached its end."""
        return (self.trained / MODEL_CONFIG).is_file()

    def checkpoint(self, stage: str) -> Path:
        """State from which an interrupted stage resumes; removed when the stage is done."""
        return self.path / "checkpoints" / f"{stage}.ckpt"

    @property
    def shards(self) -> Path:
        """What a stage has found in shards of the images, until it has joined that."""
        return self.path / "checkpoints" / "shards"

    def shard(self, stage: str, key: str, number: int) -> Path:
        """The result of one shard, by the hash of what determines that of the stage."""
        return self.shards / f"{stage}-{key[:16]}-{number:05d}.safetensors"

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

    def discard(self) -> None:
        """Remove a run in which nothing was learned, file by file: what is not of this run stays, and its folder."""
        for file in (self.recipe, self.environment, self.manifest):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else
            self.path.rmdir()


def is_update(folder: Path) -> bool:
    """Whether a run folder is that of an update within a run."""
    return folder.parent.name == VERSIONS and re.fullmatch(UPDATE, folder.name) is not None


def iso_time(moment: datetime.datetime | None = None) -> str:
    """A moment, or now, as ISO 8601 in UTC; such texts sort by time."""
    return (moment or datetime.datetime.now(datetime.UTC)).isoformat(timespec="milliseconds")


def create_run(requested: Path | None, data_name: str, recipe: Recipe, parent: Path = Path("runs")) -> RunFolder:
    """A new run folder: ``requested``, or ``runs/DATE_DATA_HASH``; a taken name gets a number.

    Raises:
        UserError: it cannot be created.
    """
    today = datetime.date.today().isoformat()
    wanted = requested or parent / f"{today}_{possible_name(data_name)}_{stable_hash(recipe)[:4]}"
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
    return run


def open_run(path: Path) -> RunFolder:
    """An existing run folder.

    Raises:
        UserError: it does not exist or holds no recipe.
    """
    run = RunFolder(path)
    if not run.recipe.is_file():
        if path.is_file():
            raise UserError("this is a file, not a run folder", str(path), "name the folder that flawmap train wrote")
        latest = latest_run(path.parent)
        hint = f"flawmap train DATA first, or use {command(latest)}" if latest else "flawmap train DATA first"
        problem = f"this is not a run folder: it has no {RECIPE}" if path.is_dir() else f"no such folder: {path}"
        raise UserError(problem, str(path), hint)
    return run


def set_latest(run: RunFolder) -> None:
    """Make a finished run the one that commands take where none is named."""
    atomic_write_text(run.path.parent / LATEST, run.path.name + "\n")


def latest_run(parent: Path = Path("runs")) -> Path | None:
    """The run in ``parent`` that has a model and was finished last: what latest.txt names.

    Where that is gone or has no model, the newest of the other finished runs is taken. A run that was copied here
    counts with the time at which it was trained. None where no run has a model.
    """
    pointer = parent / LATEST
    with suppress(OSError, UnicodeDecodeError):
        name = pointer.read_text(encoding="utf-8").strip()
        if name and RunFolder(parent / name).is_finished:
            return parent / name
    finished = [run for run in _runs_in(parent) if run.is_finished]
    newest = max(
        finished, key=lambda run: (_time_of(run, FINISHED, run.trained / WEIGHTS), run.path.name), default=None
    )
    return newest.path if newest else None


def unfinished_runs(parent: Path = Path("runs")) -> tuple[RunFolder, ...]:
    """The runs in ``parent`` that a training has begun and not finished; the one that was started last comes first."""
    runs = [run for run in _runs_in(parent) if run.is_started and run.recipe.is_file() and not run.is_finished]
    return tuple(sorted(runs, key=lambda run: _time_of(run, STARTED, run.recipe), reverse=True))


def _time_of(run: RunFolder, event: str, sign: Path) -> str:
    """When a run was started or finished, as environment.json says, which a copy keeps; else when ``sign`` was written.

    flawmap 0.1.0 recorded no times; its ``sign``, the recipe or the weights, was written once.
    """
    with suppress(UserError):  # a damaged record is no reason not to find the run
        if isinstance(recorded := run.read_environment().get(event), str):
            return recorded
    with suppress(OSError):
        return iso_time(datetime.datetime.fromtimestamp(sign.stat().st_mtime, datetime.UTC))
    return ""


def _runs_in(parent: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted(parent.iterdir()) if path.is_dir()] if parent.is_dir() else []
