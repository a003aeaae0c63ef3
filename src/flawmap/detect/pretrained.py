"""A trained detector as a folder: safetensors, JSON, YAML and a model card. Reading it executes nothing."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

import flawmap
from flawmap.detect.calibration import Calibration, read_calibration
from flawmap.detect.held_out import ProxyScores
from flawmap.errors import UserError
from flawmap.models.encoder import Encoder
from flawmap.models.weights import WeightsOrigin, build_vit
from flawmap.recipe import Recipe
from flawmap.recipe_files import load_recipe, to_yaml
from flawmap.reproducibility import atomic_write_bytes, atomic_write_text
from flawmap.scorers.paper_head import PaperHead
from flawmap.training.checkpoints import read_tensors

FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """What a model folder holds."""

    scorer: PaperHead
    recipe: Recipe
    calibration: Calibration | None
    origin: WeightsOrigin
    stage_keys: dict[str, str]


def write_pretrained(
    folder: Path,
    scorer: PaperHead,
    recipe: Recipe,
    calibration: Calibration | None,
    origin: WeightsOrigin | None,
    stage_keys: dict[str, str],
    proxy: ProxyScores | None,
) -> None:
    """Write a model folder; calibration.json goes last and marks it as complete.

    Raises:
        UserError: the folder already holds a model.
    """
    if (folder / "model.safetensors").exists() and (folder / "calibration.json").exists():
        raise UserError("this folder already holds a model", str(folder), "choose another folder")
    if origin is None:
        raise UserError("this detector is not fitted", "save_pretrained", "call fit() first")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in scorer.state_dict().items()}
    atomic_write_bytes(folder / "model.safetensors", save(tensors))
    config = {
        "format": FORMAT,
        "flawmap": flawmap.__version__,
        "architecture": origin.architecture,
        "weights_source": origin.source,
        "weights_licence": origin.licence,
        "stage_keys": stage_keys,
        "held_out_simulated_defects": asdict(proxy) if proxy else None,
    }
    atomic_write_text(folder / "config.json", json.dumps(config, indent=2))
    atomic_write_text(folder / "recipe.yaml", to_yaml(recipe))
    atomic_write_text(folder / "README.md", model_card(config, recipe, calibration))
    if calibration is not None:
        write_calibration(folder, calibration)


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Replace calibration.json."""
    atomic_write_text(folder / "calibration.json", json.dumps(asdict(calibration), indent=2))


def load_pretrained(folder: Path) -> Saved:
    """Read a model folder, or a run folder that has one.

    Raises:
        UserError: the folder is none, is incomplete or damaged, or was written by a newer flawmap.
    """
    if (folder / "model" / "model.safetensors").is_file():
        folder = folder / "model"
    if not (folder / "model.safetensors").is_file():
        unfinished = (folder / "recipe.yaml").is_file()
        remedy = f"flawmap train DATA --run {folder} --resume" if unfinished else "give a run folder of flawmap train"
        raise UserError("no trained model here", str(folder), remedy)
    config = _read_config(folder / "config.json")
    origin = WeightsOrigin(config["weights_source"], config["architecture"], config["weights_licence"])
    scorer = PaperHead(Encoder(build_vit(origin.architecture, 0.0)))
    tensors = read_tensors(folder / "model.safetensors")
    expected = {name: tuple(tensor.shape) for name, tensor in scorer.state_dict().items()}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != expected:
        raise UserError(
            f"the tensors are not those of {origin.architecture} with the paper's head",
            str(folder / "model.safetensors"),
            "copy the whole folder again, or train again",
        )
    scorer.load_state_dict(tensors)
    recipe = load_recipe(folder / "recipe.yaml")
    return Saved(scorer.eval(), recipe, read_calibration(folder / "calibration.json"), origin, config["stage_keys"])


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        missing = {"format", "architecture", "weights_source", "weights_licence", "stage_keys"} - config.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"the model's settings cannot be read: {error}", str(path), "copy the whole folder again"
        ) from error
    if missing:
        raise UserError(f"the model's settings lack {sorted(missing)}", str(path), "copy the whole folder again")
    if config["format"] > FORMAT:
        raise UserError(
            f"the model has format {config['format']}, this flawmap reads up to {FORMAT}",
            str(path),
            "pip install -U flawmap",
        )
    return config


def model_card(config: dict[str, Any], recipe: Recipe, calibration: Calibration | None) -> str:
    """README.md of a model folder."""
    proxy = config["held_out_simulated_defects"]
    lines = [
        "# Anomaly detector trained with flawmap",
        "",
        f"- encoder: {config['architecture']}; initial weights: {config['weights_source']}",
        f"- licence of the initial weights: {config['weights_licence']}",
        f"- training: recipe.yaml in this folder, seed {recipe.seed}; image score: {recipe.detect.image_score}",
    ]
    if calibration is not None:
        lines.append(
            f"- threshold: {calibration.threshold:.4g} for {calibration.false_alarm_rate:.2%} false alarms, from "
            f"{calibration.n_held_out} held-out normal images (cannot resolve below "
            f"{calibration.smallest_resolvable_rate:.1%})"
        )
    if proxy:
        lines.append(
            f"- held-out *simulated* defects (not a test result): image AUROC {_number(proxy['image_auroc'])}, "
            f"pixel AUROC {_number(proxy['pixel_auroc'])}, n = {proxy['n']}"
        )
    lines += ["", "Not a medical device. Test it on your own labelled images before relying on it.", ""]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
