"""A model folder: weights, recipe, card, calibration and config. Reading it executes nothing.

This module knows the files, not what the weights mean: :mod:`flawmap.detect.pretrained` builds the detector.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.advice import command
from flawmap.data.similar_name import similar_beside
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_bytes, atomic_write_text, file_sha256
from flawmap.runs.calibration import calibration_bytes
from flawmap.runs.cameras import CALIBRATION, CAMERAS, Calibrations, calibration_file, read_calibrations
from flawmap.runs.json_files import write_json
from flawmap.runs.model_card import model_card
from flawmap.runs.model_config import COPY_AGAIN, ModelConfig, ModelRecord, read_config, record_of_run
from flawmap.runs.run_folder import MODEL, MODEL_CONFIG, RECIPE, WEIGHTS, RunFolder, is_update

CARD = "README.md"
MODEL_FILES = (WEIGHTS, RECIPE, CARD, CALIBRATION, MODEL_CONFIG)
SHARED_FILES = (*MODEL_FILES, f"{CAMERAS}/*.json")  # patterns of what goes to the hub and comes from it


@dataclass(frozen=True)
class ModelFiles:
    """What a model folder holds besides its weights."""

    config: ModelConfig
    recipe: Recipe
    calibrations: Calibrations


def model_folder(path: Path) -> Path:
    """The current model folder of a run folder; of a model folder, itself."""
    return RunFolder(path).model if (path / MODEL).is_dir() else path


def home_of(folder: Path) -> Path:
    """The run folder around a model folder, also of an update; a model folder that is not in a run, itself."""
    if folder.name != MODEL:
        return folder
    is_of_update = is_update(folder.parent.resolve())
    return folder.parent.parent.parent if is_of_update else folder.parent


def run_around(path: str | Path) -> RunFolder | None:
    """The run folder, or that of an update, which the model at a path is of; None for a model that is in no run."""
    folder = model_folder(Path(path))
    return RunFolder(folder.parent) if folder.name == MODEL and (folder.parent / RECIPE).is_file() else None


def write_model(folder: Path, weights: bytes, files: ModelFiles) -> None:
    """Write a model folder; config.json goes last and marks it as complete.

    Args:
        folder: new, empty, or left unfinished by an interrupted write.
        weights: as safetensors.
        files: the rest.

    Raises:
        UserError: the folder already holds a model, or other files of these names.
    """
    refuse_taken(folder)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(folder / WEIGHTS, weights)
    atomic_write_text(folder / RECIPE, to_yaml(files.recipe))
    for file in (folder / CALIBRATION, *(folder / CAMERAS).glob("*.json")):
        file.unlink(missing_ok=True)  # of an interrupted write
    if files.calibrations.cameras:
        (folder / CAMERAS).mkdir(exist_ok=True)
    for camera in (None, *files.calibrations.cameras):
        if (calibration := files.calibrations.of(camera)) is not None:
            atomic_write_bytes(folder / calibration_file(camera), calibration_bytes(calibration))
    _describe(folder, files, files.calibrations.default is not None)


def refuse_taken(folder: Path) -> None:
    """Raises: UserError: a model cannot be written to this folder, because something is there."""
    taken = [name for name in (*MODEL_FILES, CAMERAS) if (folder / name).exists()]
    if MODEL_CONFIG in taken:
        raise UserError("this folder already holds a model", str(folder), "choose another folder")
    if taken and WEIGHTS not in taken:  # with them, it is a model that an interrupted write left
        raise UserError(f"this folder already holds {taken[0]}", str(folder), "choose a new or an empty folder")


def read_model(path: Path, with_thresholds: bool = True) -> tuple[Path, ModelFiles]:
    """Read all but the weights.

    Args:
        path: a model folder, or a run folder that has one.
        with_thresholds: False leaves them unread, for the command that replaces damaged ones.

    Returns:
        the model folder, and what it holds. Its record is that of the run around it, as far as there is one.

    Raises:
        UserError: there is no model, or it is incomplete, damaged or of a format that cannot be opened.
    """
    folder = model_folder(path)
    _refuse_incomplete(path, folder)
    config = read_config(folder / MODEL_CONFIG)
    calibrations = read_calibrations(folder) if with_thresholds else Calibrations()
    if with_thresholds and calibrations.default is None and config.calibrated:
        raise UserError("the model has lost its threshold", str(folder / CALIBRATION), COPY_AGAIN)
    try:
        record = _newest_record(folder, config)
    except UserError:  # a damaged evaluation beside the model is no reason not to detect
        record = config.record
    return folder, ModelFiles(
        replace(config, record=record), load_recipe(folder / RECIPE, is_of_model=True), calibrations
    )


def refuse_changed_weights(folder: Path, config: ModelConfig, remedy: str = COPY_AGAIN) -> str:
    """Compare the weights with the SHA-256 that was written with them; a folder of an earlier flawmap has none.

    Args:
        folder: of the model.
        config: of the same folder.
        remedy: how to get the right ones.

    Returns:
        their SHA-256.

    Raises:
        UserError: they are not those that were saved. One flipped bit can move every score.
    """
    found = file_sha256(folder / WEIGHTS)
    if config.weights_sha256 not in (None, found):
        problem = "the weights are not those that were saved"
        hashes = f"SHA-256 {found[:16]}... instead of {config.weights_sha256[:16]}..."
        raise UserError(f"{problem}: {hashes}", str(folder / WEIGHTS), remedy)
    return found


def replace_calibration(folder: Path, camera: str | None, content: bytes | None) -> None:
    """Give a model other thresholds for one camera, or none; then card and config follow.

    A crash leaves the former thresholds in force or the new ones. The caller keeps the former ones:
    :mod:`flawmap.runs.versions`.

    Args:
        folder: of the model.
        camera: None stands for the default.
        content: of the calibration's file; None removes it.
    """
    file = folder / calibration_file(camera)
    config, recipe = read_config(folder / MODEL_CONFIG), load_recipe(folder / RECIPE, is_of_model=True)
    is_calibrated = config.calibrated if camera is not None else content is not None
    if content is not None:
        file.parent.mkdir(exist_ok=True)
        atomic_write_bytes(file, content)
    calibrations = read_calibrations(folder, skip_damaged=True)
    if content is None:
        calibrations = calibrations.replaced(camera, None)
    _describe(folder, ModelFiles(config, recipe, calibrations), is_calibrated)
    if content is None:
        file.unlink(missing_ok=True)  # last: a config that promises thresholds must not outlive them


def refresh_card(path: Path) -> None:
    """Write into a model's card and config what its run folder knows by now: its data and its evaluation."""
    folder = model_folder(path)
    config, calibrations = read_config(folder / MODEL_CONFIG), read_calibrations(folder)
    config = replace(config, record=_newest_record(folder, config))
    _describe(
        folder, ModelFiles(config, load_recipe(folder / RECIPE, is_of_model=True), calibrations), config.calibrated
    )


def _describe(folder: Path, files: ModelFiles, is_calibrated: bool) -> None:
    """Write the card, and config.json last."""
    config = replace(files.config, calibrated=is_calibrated)
    atomic_write_text(folder / CARD, model_card(config, files.recipe, files.calibrations))
    write_json(folder / MODEL_CONFIG, config)


def _newest_record(folder: Path, config: ModelConfig) -> ModelRecord:
    """The config's record, replaced part by part by what the run folder around the model knows."""
    around = record_of_run(RunFolder(folder.parent)) if folder.name == MODEL else ModelRecord()
    own = config.record
    return ModelRecord(
        around.data or own.data, around.evaluation or own.evaluation, around.known_defects or own.known_defects
    )


def _refuse_incomplete(path: Path, folder: Path) -> None:
    """``path`` is what was asked for, ``folder`` where the model should be."""
    if not path.is_dir():
        problem = f"{path} is a file, not a model folder" if path.exists() else f"no such folder: {path}"
        near = None if path.exists() else similar_beside(path)
        hint = f"; {near} exists" if near else ""
        raise UserError(f"{problem}  (you are in {Path.cwd()}{hint})", "", "give a run folder of flawmap train")
    needed = (WEIGHTS, RECIPE, MODEL_CONFIG)
    missing = [name for name in needed if not (folder / name).is_file() or (folder / name).stat().st_size == 0]
    if not missing:
        return
    run = next((place for place in (path, folder.parent) if RunFolder(place).is_started), None)
    if run is not None and MODEL_CONFIG in missing:
        problem = "no trained model here: training was not finished"
        data = RunFolder(run).read_environment().get("data") or "DATA"
        again = command("flawmap", "train", *([data] if isinstance(data, str) else data), "--run", run, "--resume")
        raise UserError(problem, str(path), again)
    if MODEL_CONFIG in missing and WEIGHTS in missing:
        raise UserError("no trained model here", str(path), "give a run folder of flawmap train")
    raise UserError(f"the model is incomplete: {missing[0]} is missing or empty", str(folder), COPY_AGAIN)
