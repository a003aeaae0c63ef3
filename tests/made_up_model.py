"""A model folder without weights, in a run folder or alone: for what does not score images."""

from dataclasses import replace
from pathlib import Path

from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.runs.calibration import Calibration, MapScale
from flawmap.runs.cameras import Calibrations
from flawmap.runs.model_config import FORMAT, ModelConfig, ModelRecord
from flawmap.runs.model_folder import ModelFiles, write_model


def made_up_calibration(threshold: float, n: int = 10, rate: float = 0.1) -> Calibration:
    """A threshold that ``n`` images below it have set."""
    scores = tuple(threshold - 1 + (i + 1) / (n + 1) for i in range(n))
    return Calibration(threshold, rate, n, 1 / (n + 1), threshold, MapScale(threshold - 1, threshold + 1), scores)


MADE_UP_CONFIG = ModelConfig(
    format=FORMAT,
    flawmap="0.1.0",
    architecture="none",
    weights_source="made up",
    weights_licence="none",
    stage_keys={},
    memory_tokens=None,
    reference_images=None,
    held_out_simulated_defects=None,
    calibrated=False,
    record=ModelRecord(),
)


def write_made_up_model(folder: Path, calibrations: Calibrations) -> Path:
    """Everything of a model folder that can be read without its weights."""
    config = replace(MADE_UP_CONFIG, calibrated=calibrations.default is not None)
    write_model(folder, b"weights", ModelFiles(config, load_recipe("quick"), calibrations))
    return folder


def write_made_up_run(run: Path, calibrations: Calibrations) -> Path:
    """A run folder around such a model; returns the model's folder."""
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(to_yaml(load_recipe("quick")), encoding="utf-8")
    return write_made_up_model(run / "model", calibrations)
