"""The run folder: everything that one training leaves behind, never overwritten."""

import csv
import datetime
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawmap.data.checks import FileFacts
from flawmap.errors import UserError
from flawmap.recipe.files import to_yaml
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text, stable_hash

LATEST = "latest.txt"


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, itself a valid ``--recipe``."""
        return self.path / "recipe.yaml"

    @property
    def log(self) -> Path:
        """One JSON object per training step."""
        return self.path / "log.jsonl"

    @property
    def model(self) -> Path:
        """What ``AnomalyDetector.from_pretrained`` reads."""
        return self.path / "model"

    @property
    def samples(self) -> Path:
        """Pictures of what training saw."""
        return self.path / "samples"

    @property
    def evaluation(self) -> Path:
        """Metrics and maps of ``flawmap evaluate``."""
        return self.path / "evaluation"

    @property
    def is_finished(self) -> bool:
        """Whether training reached its end."""
        return (self.model / "config.json").is_file()

    def checkpoint(self, stage: str) -> Path:
        """State from which an interrupted stage goes on; removed when the stage is done."""
        return self.path / "checkpoints" / f"{stage}.ckpt"

    def stage_output(self, stage: str) -> Path:
        """Result of a finished stage."""
        return self.path / "checkpoints" / f"{stage}.safetensors"

    def shared_stage(self, stage: str, key: str) -> Path:
        """The same result where other runs find it, by the hash of what determines it."""
        return self.path.parent / "stages" / f"{stage}-{key[:16]}.safetensors"

    def write_environment(self, environment: dict[str, Any]) -> None:
        """environment.json."""
        atomic_write_text(self.path / "environment.json", json.dumps(environment, indent=2))

    def write_data_manifest(self, facts: Iterable[tuple[str, FileFacts]]) -> None:
        """data_manifest.csv: every training image with its hash and its side of the split."""
        buffer = io.StringIO()
        rows = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a name may hold a carriage return
        rows.writerow(["path", "sha256", "split", "width", "height", "pixels_sha256"])
        for split, fact in facts:
            rows.writerow([fact.key, fact.sha256, split, fact.width_px, fact.height_px, fact.pixels_sha256])
        atomic_write_text(self.path / "data_manifest.csv", buffer.getvalue())


def create_run(requested: Path | None, data_name: str, recipe: Recipe, parent: Path = Path("runs")) -> RunFolder:
    """A new run folder: ``requested``, or ``runs/DATE_DATA_HASH``; a taken name gets a number."""
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
    atomic_write_text(path / "recipe.yaml", to_yaml(recipe))
    atomic_write_text(path.parent / LATEST, path.name + "\n")
    return RunFolder(path)


def open_run(path: Path) -> RunFolder:
    """An existing run folder.

    Raises:
        UserError: it does not exist or holds no recipe.
    """
    if not (path / "recipe.yaml").is_file():
        latest = latest_run(path.parent)
        hint = f"flawmap train DATA first, or use {latest}" if latest else "flawmap train DATA first"
        raise UserError("no run folder (it would hold recipe.yaml)", str(path), hint)
    return RunFolder(path)


def latest_run(parent: Path = Path("runs")) -> Path | None:
    """The run that was started last in ``parent``, if its folder still exists."""
    pointer = parent / LATEST
    if not pointer.is_file():
        return None
    path = parent / pointer.read_text(encoding="utf-8").strip()
    return path if path.is_dir() else None
