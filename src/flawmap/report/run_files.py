"""What a run folder holds, read for the report; any part may be missing, none may be malformed."""

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flawmap.errors import UserError
from flawmap.report.colour import ColourScale

SAMPLES = "samples"  # folder of a run: what training saw
SAMPLE_MAP_ENDS = "map_ends.json"  # beside the pictures: the scale of their maps
SAMPLE_COLUMNS = ("input", "attention", "masked", "simulated", "footprint", "map")


@dataclass(frozen=True)
class ScoredImage:
    """One row of ``evaluation/per_image.csv``. The files are absolute paths that exist, or None."""

    key: str
    path: Path
    kind: str
    is_anomalous: bool
    score: float
    is_flagged: bool
    map_file: Path | None = None
    truth_file: Path | None = None
    attention_file: Path | None = None


@dataclass(frozen=True)
class SampleRow:
    """The pictures of one held-out normal image in ``samples/`` by column name, without the missing ones.

    ``map_ends`` are the map values that 0 and 255 stand for in its map; None in a run that does not say.
    """

    number: str
    files: Mapping[str, Path]
    map_ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class RunFiles:
    """Everything the report shows, as it lies in the run folder.

    Attributes:
        run: the folder.
        metrics: ``evaluation/metrics.json``; empty when the run has not been evaluated.
        images: ``evaluation/per_image.csv``.
        calibration: ``model/calibration.json``; empty when there is none.
        config: ``model/config.json``.
        environment: ``environment.json``.
        recipe: the text of ``recipe.yaml``, or "".
        log: the lines of ``log.jsonl``.
        splits: how many images of ``data_manifest.csv`` each split has.
        sizes_px: width and height of the smallest and of the largest of them; empty without the manifest.
        samples: what training saw.
    """

    run: Path
    metrics: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[ScoredImage, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    log: tuple[Mapping[str, Any], ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    sizes_px: tuple[tuple[int, int], ...] = ()
    samples: tuple[SampleRow, ...] = ()

    @property
    def is_evaluated(self) -> bool:
        """Whether there are scores of test images."""
        return bool(self.metrics) and bool(self.images)

    @property
    def threshold(self) -> float | None:
        """The score above which an image is flagged: the evaluation's, or the calibrated before one."""
        value = (self.metrics or self.calibration).get("threshold")
        return None if value is None else float(value)

    @property
    def is_calibrated_since(self) -> bool:
        """Whether the test images were scored without a threshold, and one was calibrated afterwards."""
        return self.is_evaluated and self.threshold is None and "threshold" in self.calibration


def read_run(run: Path) -> RunFiles:
    """Reads a run folder.

    Raises:
        UserError: when it is no run folder, or one of its files cannot be understood.
    """
    run = Path(run)
    known = ("recipe.yaml", "log.jsonl", "model", "evaluation")
    if not any((run / name).exists() for name in known):
        problem = (
            f"no such folder: {run}"
            if not run.is_dir()
            else "this folder is no run: it has none of " + ", ".join(known)
        )
        raise UserError(problem, str(run), "give the run folder that `flawmap train` printed on its last line")
    recipe = run / "recipe.yaml"
    splits, sizes_px = _read_manifest(run / "data_manifest.csv")
    return RunFiles(
        run=run.resolve(),
        metrics=_read_json(run / "evaluation" / "metrics.json"),
        images=_read_images(run / "evaluation" / "per_image.csv"),
        calibration=_read_json(run / "model" / "calibration.json"),
        config=_read_json(run / "model" / "config.json"),
        environment=_read_json(run / "environment.json"),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        log=_read_log(run / "log.jsonl"),
        splits=splits,
        sizes_px=sizes_px,
        samples=read_samples(run),
    )


def read_samples(run: Path) -> tuple[SampleRow, ...]:
    """The rows of ``samples/`` that have at least an input picture, by number."""
    rows, ends = [], _read_json(Path(run) / SAMPLES / SAMPLE_MAP_ENDS)
    map_ends = (float(ends["low"]), float(ends["high"])) if {"low", "high"} <= ends.keys() else None
    for picture in sorted((Path(run) / SAMPLES).glob("*_input.png")):
        number = picture.name.removesuffix("_input.png")
        files = {name: picture.with_name(f"{number}_{name}.png") for name in SAMPLE_COLUMNS}
        rows.append(SampleRow(number, {name: file for name, file in files.items() if file.is_file()}, map_ends))
    return tuple(rows)


def attention_name(map_name: str | None) -> str | None:
    """Where an image's attention lies, from where its map does: ``maps/X.png`` to ``attention/X.png``."""
    return f"attention/{Path(map_name).name}" if map_name else None


def map_scale_of(source: Mapping[str, Any]) -> ColourScale | None:
    """The colour scale that metrics.json or calibration.json states, or None when it states none.

    A threshold outside of [low, high] widens the scale to hold it.
    """
    ends, threshold = source.get("map_scale"), source.get("map_threshold")
    if not isinstance(ends, Mapping) or threshold is None:
        return None
    low, high, threshold = float(ends["low"]), float(ends["high"]), float(threshold)
    return ColourScale(min(low, threshold), threshold, max(high, threshold))


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path.name} is not valid JSON ({error})", str(path), "write it again with the verb that made it"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path.name} holds no JSON object", str(path), "write it again with the verb that made it")
    return content


def _read_images(path: Path) -> tuple[ScoredImage, ...]:
    if not path.is_file():
        return ()
    images = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                image = ScoredImage(
                    key=row["key"],
                    path=Path(row["path"]),
                    kind=row["kind"],
                    is_anomalous=bool(int(row["is_anomalous"])),
                    score=float(row["score"]),
                    is_flagged=bool(int(row["is_flagged"])),
                    map_file=_file_of_run(path.parent, row.get("map")),
                    truth_file=_file_of_run(path.parent, row.get("truth")),
                    attention_file=_file_of_run(path.parent, attention_name(row.get("map"))),
                )
            except (KeyError, ValueError, TypeError) as error:
                raise UserError(
                    f"row {number} is not as `flawmap evaluate` writes it ({error!r})",
                    str(path),
                    "run `flawmap evaluate` again",
                ) from error
            if not math.isfinite(image.score):
                raise UserError(f"row {number} has the score {image.score}", str(path), "run `flawmap evaluate` again")
            images.append(image)
    return tuple(images)


def _file_of_run(evaluation: Path, name: str | None) -> Path | None:
    """A file named relative to the evaluation folder or to the run; never one outside of the run."""
    run = evaluation.parent.resolve()
    for base in (evaluation, evaluation.parent):
        file = (base / name).resolve() if name else run
        if file.is_file() and file.is_relative_to(run):
            return file
    return None


def _read_log(path: Path) -> tuple[Mapping[str, Any], ...]:
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line) if line.strip() else None
        except ValueError as error:
            if number == len(lines):  # training was interrupted while it wrote, or is still writing
                continue
            raise UserError(f"line {number} is not valid JSON ({error})", str(path), "remove this line") from error
        if isinstance(entry, dict):
            entries.append(entry)
    return tuple(entries)


def _read_manifest(path: Path) -> tuple[Mapping[str, int], tuple[tuple[int, int], ...]]:
    """How many images each split has, and the (width, height) of the smallest and the largest image."""
    if not path.is_file():
        return {}, ()
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sizes = [
        (int(row["width"]), int(row["height"]))
        for row in rows
        if (row.get("width") or "").isdigit() and (row.get("height") or "").isdigit()
    ]
    ends = (min(sizes, key=_area), max(sizes, key=_area)) if sizes else ()
    return dict(Counter(row.get("split") or "unnamed" for row in rows)), ends


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
