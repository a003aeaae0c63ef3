"""The methods that a board can compare, by name: ``padim``, ``standard``, ``standard+memory.tokens=2000``."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from flawmap.errors import UserError
from flawmap.plugins import broken_plugin, load_plugin, plugin_names
from flawmap.recipe.files import PRESETS
from flawmap_bench.method import Method, MethodSettings

# "module:class" below flawmap_bench: a method's packages are loaded only when it runs
BASELINES: dict[str, str] = {
    "cutpaste": "baselines.cutpaste:CutPasteDensity",
    "nsa": "baselines.simulated:Nsa",
    "fpi": "baselines.simulated:Fpi",
    "pii": "baselines.simulated:Pii",
    "padim": "baselines.padim:Padim",
    "spade": "baselines.spade:Spade",
    "differnet": "baselines.differnet:DifferNet",
    "riad": "baselines.riad:Riad",
    "intra": "baselines.intra:InTra",
    "draem": "baselines.draem:Draem",
}
METHODS_VERSION = 1  # raised when code changes what a compared method computes, so that older results are not shown
PEER_NAMES = ("patchcore", "anomaly_dino", "dinomaly", "inp_former", "supersimplenet")
ENTRY_POINTS = "flawmap_bench.peers"  # of other packages: functions from MethodSettings to a Method
ANY_PEER = "anomalib:"  # of anomalib's other models, by class name
TITLES: dict[str, str] = {
    "cutpaste": "CutPaste 3-way + GDE",
    "nsa": "NSA (logistic)",
    "fpi": "FPI",
    "pii": "PII",
    "padim": "PaDiM",
    "spade": "SPADE",
    "differnet": "DifferNet",
    "riad": "RIAD",
    "intra": "InTra",
    "draem": "DRAEM",
    "patchcore": "PatchCore-1 %",
    "anomaly_dino": "AnomalyDINO",
    "dinomaly": "Dinomaly",
    "inp_former": "INP-Former",
    "supersimplenet": "SuperSimpleNet",
}
OVERRIDE = re.compile(r"\+(?=[a-z_]+(?:\.[a-z_]+)*=)")  # what separates a recipe's name from its own settings
# these settings say which images there are, and are the same for all methods
SHARED_DATA = ("data.normal", "data.anomalous", "data.train_subset", "data.test_subset", "data.pretrain_on")
DEFAULT_METHODS = ("standard", "quick", *BASELINES, "patchcore", "anomaly_dino", "dinomaly", "inp_former")


def check_method_names(names: tuple[str, ...]) -> None:
    """Refuse unknown names.

    Raises:
        UserError: naming the first of them, and the name that was probably meant.
    """
    for whole in names:
        name, overrides = split_overrides(whole)
        if overrides and not is_recipe(name):
            raise UserError(f"{whole}: only recipes have settings", "--methods", f"name {name} alone")
        if own := [change for change in overrides if change.partition("=")[0] in SHARED_DATA]:
            remedy = f"--set {own[0]} chooses images for all methods"
            raise UserError(f"{whole}: on a board all methods learn from the same images", "--methods", remedy)
        if name in BASELINES or name in PEER_NAMES or name in PRESETS:
            continue
        if name in plugin_names(ENTRY_POINTS):
            continue
        if name.startswith(ANY_PEER) or (name.endswith((".yaml", ".yml")) and Path(name).is_file()):
            continue
        registered = plugin_names(ENTRY_POINTS)
        near = get_close_matches(name, [*BASELINES, *PEER_NAMES, *registered, *PRESETS], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = f"{', '.join((*BASELINES, *PEER_NAMES, *registered))}, a recipe (standard, my.yaml), or {ANY_PEER}CLASS"
        raise UserError(f"there is no method {name!r}{hint}", "--methods", f"choose from {known}")


def is_recipe(name: str) -> bool:
    """Whether a method is a flawmap recipe, with settings of its own or not, and not another method."""
    if name in BASELINES or name in PEER_NAMES or name.startswith(ANY_PEER):
        return False
    recipe = OVERRIDE.split(name)[0]
    return recipe in PRESETS or recipe.endswith((".yaml", ".yml")) or recipe not in plugin_names(ENTRY_POINTS)


def title_of(name: str) -> str:
    """A method's name on a board."""
    if not is_recipe(name):
        return TITLES.get(name, name)
    recipe, overrides = split_overrides(name)
    return ", ".join(("flawmap", Path(recipe).stem, *overrides))


def split_overrides(name: str) -> tuple[str, tuple[str, ...]]:
    """A recipe and settings of its own: ``quick+memory.tokens=2000`` is ``quick`` and ``memory.tokens=2000``."""
    recipe, *overrides = OVERRIDE.split(name)
    return recipe, tuple(overrides)


def missing_package(name: str) -> str | None:
    """The optional package that a method needs and that is not installed; None where nothing is missing."""
    needs_anomalib = name in PEER_NAMES or name.startswith(ANY_PEER)
    return "anomalib" if needs_anomalib and find_spec("anomalib") is None else None


def build_method(name: str, settings: MethodSettings) -> Method:
    """A method by name, not yet fitted.

    Raises:
        UserError: there is no such method, or it needs something that is missing.
    """
    check_method_names((name,))
    if name in BASELINES:
        module, _, kind = BASELINES[name].partition(":")
        factory: Callable[[MethodSettings], Method] = getattr(import_module(f"flawmap_bench.{module}"), kind)
        return factory(settings)
    if name in PEER_NAMES or name.startswith(ANY_PEER):
        from flawmap_bench.peers.anomalib_method import AnomalibMethod

        return AnomalibMethod(settings, name)
    if not is_recipe(name):
        make = load_plugin(ENTRY_POINTS, name)
        method = make(settings) if make is not None else None
        if not (hasattr(method, "fit") and hasattr(method, "score") and hasattr(method, "note")):
            raise broken_plugin(ENTRY_POINTS, name, f"gives a {type(method).__name__}, not a Method")
        return cast(Method, method)
    from flawmap_bench.baselines.flawmap_recipe import FlawmapRecipe

    return FlawmapRecipe(settings, name)
