"""A trained detector as a folder: safetensors, JSON, YAML and a model card. Reading it executes nothing."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save

import flawmap
from flawmap.detect.held_out import ProxyScores
from flawmap.engine.checkpoints import read_tensors
from flawmap.errors import UserError
from flawmap.memory.scorer import TokenScorer, build_scorer
from flawmap.paper.heads import PaperHead
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_bytes, atomic_write_text
from flawmap.runs.calibration import Calibration, read_calibration
from flawmap.runs.hub import download, is_hub_id
from flawmap.runs.model_card import model_card
from flawmap.runs.model_record import record_of_run
from flawmap.scorer import Scorer
from flawmap.vit.encoder import Encoder
from flawmap.vit.weights import WeightsOrigin, build_vit

FORMAT = 1
WEIGHTS, RECIPE, CARD, CALIBRATION, CONFIG = FILES = (
    *("model.safetensors", "recipe.yaml", "README.md", "calibration.json"),
    "config.json",  # written last: a model without it is not complete
)
RUN_SIGNS = ("log.jsonl", "data_manifest.csv")
COPY_AGAIN = "copy the whole folder again, or train again"
CONFIG_TYPES = {
    "format": int,
    "architecture": str,
    "weights_source": str,
    "weights_licence": str,
    "stage_keys": dict,
}
COUNTS = ("memory_tokens", "reference_images")  # of a scorer on tokens


@dataclass(frozen=True)
class Saved:
    """What a model folder holds."""

    scorer: Scorer
    recipe: Recipe
    calibration: Calibration | None
    origin: WeightsOrigin
    stage_keys: dict[str, str]
    proxy: ProxyScores | None
    record: dict[str, Any] = field(default_factory=dict)


def write_pretrained(
    folder: Path,
    scorer: Scorer,
    recipe: Recipe,
    calibration: Calibration | None,
    origin: WeightsOrigin | None,
    stage_keys: dict[str, str],
    proxy: ProxyScores | None,
    record: dict[str, Any] | None = None,
) -> None:
    """Write a model folder; config.json goes last and marks it as complete.

    ``record`` is what :func:`flawmap.runs.model_record.record_of_run` gives, for the card.

    Raises:
        UserError: the folder already holds a model, or other files of these names.
    """
    if origin is None:
        raise UserError("this detector is not fitted", "save_pretrained", "call fit() first")
    refuse_taken(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in scorer.state_dict().items()}
    config = {
        "format": FORMAT,
        "flawmap": flawmap.__version__,
        "architecture": origin.architecture,
        "weights_source": origin.source,
        "weights_licence": origin.licence,
        "stage_keys": stage_keys,
        "memory_tokens": scorer.memory.tokens.shape[1] if isinstance(scorer, TokenScorer) else None,
        "reference_images": len(scorer.expectation.appearances) if isinstance(scorer, TokenScorer) else None,
        "held_out_simulated_defects": asdict(proxy) if proxy else None,
        "record": record or {},
    }
    atomic_write_bytes(folder / WEIGHTS, save(tensors))
    atomic_write_text(folder / RECIPE, to_yaml(recipe))
    (folder / CALIBRATION).unlink(missing_ok=True)  # of a model that was not written to its end
    _write_rest(folder, config, recipe, calibration)


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Replace the calibration of a model folder, and what its card says of it."""
    config, recipe = _read_config(folder / CONFIG), load_recipe(folder / RECIPE)
    _write_rest(folder, config, recipe, calibration)


def refresh_card(path: Path) -> None:
    """Write into the model's card and config what its run folder knows by now: its data, its evaluation."""
    folder = model_folder(path)
    config = _read_config(folder / CONFIG)
    config["record"] = _record(folder, config)
    _write_rest(folder, config, load_recipe(folder / RECIPE), read_calibration(folder / CALIBRATION))


def _record(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What config.json has, replaced part by part by what the run folder around the model has."""
    stored = config.get("record")
    around = record_of_run(folder.parent) if folder.name == "model" else {}
    return (stored if isinstance(stored, dict) else {}) | around


def _write_rest(folder: Path, config: dict[str, Any], recipe: Recipe, calibration: Calibration | None) -> None:
    atomic_write_text(folder / CARD, model_card(config, recipe, calibration, config.get("record")))
    if calibration is not None:
        atomic_write_text(folder / CALIBRATION, json.dumps(asdict(calibration), indent=2))
    config = config | {"calibrated": calibration is not None}
    atomic_write_text(folder / CONFIG, json.dumps(config, indent=2))


def refuse_taken(folder: Path) -> None:
    """Raises: UserError: a model cannot be written to this folder, because something is there."""
    taken = [name for name in FILES if (folder / name).exists()]
    if CONFIG in taken:
        raise UserError("this folder already holds a model", str(folder), "choose another folder")
    if taken and WEIGHTS not in taken:  # with them, it is a model of ours that was not written to its end
        raise UserError(f"this folder already holds {taken[0]}", str(folder), "choose a new or an empty folder")


def model_folder(path: Path) -> Path:
    """The model folder of a run folder; of a model folder, itself."""
    return path / "model" if (path / "model").is_dir() else path


def load_pretrained(path: str | Path) -> Saved:
    """Read a model folder, or a run folder that has one, or a model of the hub (``hub:OWNER/NAME``).

    Raises:
        UserError: the folder is none, is incomplete or damaged, or was written by a newer flawmap.
    """
    path = download(str(path), FILES) if is_hub_id(path) else Path(path)
    folder = model_folder(path)
    _refuse_unless_complete(path, folder)
    config = _read_config(folder / CONFIG)
    origin = WeightsOrigin(config["weights_source"], config["architecture"], config["weights_licence"])
    try:
        encoder = Encoder(build_vit(origin.architecture, 0.0))
    except UserError as error:
        raise UserError(error.problem, str(folder / CONFIG), COPY_AGAIN) from error
    recipe, calibration = load_recipe(folder / RECIPE), read_calibration(folder / CALIBRATION)
    scorer = _empty_scorer(encoder, recipe, config)
    scorer.load_state_dict(_tensors_for(scorer, folder / WEIGHTS, origin.architecture))
    if calibration is None and config.get("calibrated"):
        raise UserError("the model has lost its threshold", str(folder / CALIBRATION), COPY_AGAIN)
    try:
        record = _record(folder, config)
    except UserError:  # of its files around the model: a damaged report is no reason not to detect
        record = config.get("record") or {}
    return Saved(scorer.eval(), recipe, calibration, origin, config["stage_keys"], _proxy_of(config), record)


def _empty_scorer(encoder: Encoder, recipe: Recipe, config: dict[str, Any]) -> Scorer:
    """The recipe's scorer, its tensors still to be read."""
    if recipe.method == "paper":
        return PaperHead(encoder)
    memory_tokens, reference_images = (config.get(name) for name in COUNTS)
    return build_scorer(encoder, recipe, memory_tokens, reference_images or 0)


def _refuse_unless_complete(path: Path, folder: Path) -> None:
    """``path`` is what was asked for, ``folder`` where the model should be."""
    if not path.is_dir():
        problem = f"{path} is a file, not a model folder" if path.exists() else f"no such folder: {path}"
        raise UserError(f"{problem}  (you are in {Path.cwd()})", "", "give a run folder of flawmap train")
    missing = [name for name in (WEIGHTS, RECIPE, CONFIG) if not _is_filled(folder / name)]
    if not missing:
        return
    run = next((place for place in (path, folder.parent) if any((place / sign).is_file() for sign in RUN_SIGNS)), None)
    if run is not None and CONFIG in missing:
        raise UserError(
            "no trained model here: training was not finished", str(path), f"flawmap train DATA --run {run} --resume"
        )
    if CONFIG in missing and WEIGHTS in missing:
        raise UserError("no trained model here", str(path), "give a run folder of flawmap train")
    raise UserError(f"the model is incomplete: {missing[0]} is missing or empty", str(folder), COPY_AGAIN)


def _is_filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _tensors_for(scorer: Scorer, path: Path, architecture: str) -> dict[str, Any]:
    try:
        tensors = read_tensors(path)
    except UserError as error:
        raise UserError(error.problem, error.place, COPY_AGAIN) from error
    expected = {name: tuple(tensor.shape) for name, tensor in scorer.state_dict().items()}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != expected:
        raise UserError(f"the tensors are not those of {architecture} with this recipe's scorer", str(path), COPY_AGAIN)
    return tensors


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"the model's settings cannot be read: {error}", str(path), COPY_AGAIN) from error
    if not isinstance(config, dict):
        raise UserError("the model's settings are no JSON object", str(path), COPY_AGAIN)
    wrong = [name for name, kind in CONFIG_TYPES.items() if not isinstance(config.get(name), kind)]
    if wrong:
        raise UserError(f"the model's settings lack {', '.join(wrong)}", str(path), COPY_AGAIN)
    for name in COUNTS:
        if config.get(name) is not None and type(config[name]) is not int:
            raise UserError(f"the model's {name} is no whole number", str(path), COPY_AGAIN)
    if config["format"] > FORMAT:
        raise UserError(
            f"the model has format {config['format']}, this flawmap reads up to {FORMAT}",
            str(path),
            "pip install -U flawmap",
        )
    return config


def _proxy_of(config: dict[str, Any]) -> ProxyScores | None:
    values = config.get("held_out_simulated_defects")
    if not isinstance(values, dict):
        return None
    return ProxyScores(values.get("image_auroc"), values.get("pixel_auroc"), values.get("n", 0))
