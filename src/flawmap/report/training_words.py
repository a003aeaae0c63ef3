"""What the report says of a training, by what its recipe trains: not all recipes hide patches or learn by steps."""

from collections.abc import Mapping
from typing import Any

import yaml

from flawmap.report.sheet import COLUMN_TITLES


def sample_columns(recipe: str) -> dict[str, str]:
    """Titles of the samples' columns by name, from the text of recipe.yaml; masked views where stage 1 runs."""
    return {name: title for name, title in COLUMN_TITLES.items() if name != "masked" or _pretrains(_settings(recipe))}


def samples_sentence(recipe: str) -> str:
    """What the rows of samples show, and what training made of such pictures."""
    settings = _settings(recipe)
    hidden = "which patches are hidden, " if _pretrains(settings) else ""
    shown = (
        f"where the model looks, {hidden}a simulated defect (its footprint in green), and the anomaly map of the "
        "picture with this defect."
    )
    if _only_remembers(settings):
        return (
            f"Good pictures that were held out: {shown} This recipe remembers good pictures and learns from no "
            "simulated defect; these only check it."
        )
    return f"Good pictures that were held out, treated as training treats its own: {shown}"


def no_curves_sentence(recipe: str) -> str:
    """Why there are no curves of training."""
    settings = _settings(recipe)
    if _only_remembers(settings) and not _pretrains(settings):
        return "None: this recipe remembers good pictures and learns nothing step by step."
    return "The run holds no log of training."


def _settings(recipe: str) -> Mapping[str, Any]:
    try:
        settings = yaml.safe_load(recipe)
    except yaml.YAMLError:
        return {}
    return settings if isinstance(settings, Mapping) else {}


def _pretrains(settings: Mapping[str, Any]) -> bool:
    pretrain = settings.get("pretrain")
    return bool(pretrain.get("enabled", True)) if isinstance(pretrain, Mapping) else True


def _only_remembers(settings: Mapping[str, Any]) -> bool:
    return settings.get("method") == "memory"
