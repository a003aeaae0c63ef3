"""How a run's recipe differs from the preset it was made from."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from flawmap.recipe.fields import values_of
from flawmap.recipe.files import PRESETS, load_recipe
from flawmap.report.run_files import RunFiles


@dataclass(frozen=True)
class RecipeDiff:
    """Settings that are not the preset's: (name, the run's value, the preset's value)."""

    preset: str
    rows: tuple[tuple[str, str, str], ...]


def recipe_diff(files: RunFiles) -> RecipeDiff | None:
    """Compare with the preset that the training's command names, else with the one that differs least.

    Returns:
        None when the run has no recipe.
    """
    if files.recipe is None:
        return None
    named = _preset_of(files.environment)
    own = dict(values_of(files.recipe))
    presets = {name: dict(values_of(load_recipe(name))) for name in PRESETS}
    distance = {name: sum(own[key] != value for key, value in preset.items()) for name, preset in presets.items()}
    name = named or min(PRESETS, key=lambda preset: distance[preset])
    rows = [(key, _text(own[key]), _text(value)) for key, value in presets[name].items() if own[key] != value]
    return RecipeDiff(name, tuple(rows))


def _preset_of(environment: Mapping[str, Any]) -> str | None:
    """The preset in ``flawmap train DATA --recipe NAME``."""
    try:
        words = shlex.split(str(environment.get("command", "")))
    except ValueError:  # an open quote
        return None
    for word, following in pairwise([*words, ""]):
        name = following if word == "--recipe" else word.removeprefix("--recipe=")
        if word.startswith("--recipe") and name in PRESETS:
            return name
    return None


def _text(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
