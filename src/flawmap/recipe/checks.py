"""Which recipes are refused: unknown names, wrong types, numbers out of range, settings that contradict each other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from flawmap.errors import UserError
from flawmap.recipe.fields import is_used, settings_and_groups, values_of
from flawmap.recipe.settings import Recipe

SEE_ALL = "flawmap recipe standard prints all settings; flawmap recipe paper, those of the paper's method"

_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Entry:
    """A value in a recipe, and its place ("recipes/my.yaml line 6" or "--set a.b=c")."""

    value: Any
    place: str


def validate(recipe: Recipe) -> None:
    """Check a recipe that was built in Python by the rules of recipe files.

    Raises:
        UserError: as :func:`flawmap.recipe.load_recipe`; the place is the name of the setting.
    """
    for key, value in values_of(recipe):
        checked_value(key, Entry(value, key))
    cross_check(recipe)


def refuse_unless_setting(key: str, place: str) -> None:
    """Raises: UserError: ``key`` is not a setting; with the name that was probably meant."""
    known = settings_and_groups()
    if key in known and not known[key].is_group:
        return
    if key in known:
        raise UserError(f"{key} is a group of settings, not a value", place, f"set its parts: {key}.NAME")
    parent, _, last = key.rpartition(".")
    near = [name for name in known if name.endswith(f".{key}")]  # the right name without its groups
    for candidates in ([name for name in known if name.rpartition(".")[0] == parent], known):
        lasts = get_close_matches(last, {name.rpartition(".")[2] for name in candidates}, n=1, cutoff=0.7)
        near = near or [name for name in candidates if lasts and name.rpartition(".")[2] == lasts[0]]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"unknown key {key}{hint}", place, SEE_ALL)


def refuse_without_effect(key: str, recipe: Recipe, place: str) -> None:
    """Raises: UserError: the recipe's method does not use the setting, or stage 1 does, which is off."""
    if key == "compute.precision" and recipe.compute.precision == "bf16" and not recipe.trains_encoder:
        problem = f"bf16 has no effect on method {recipe.method}, whose encoder is frozen and computes in fp32"
        raise UserError(problem, place, "leave it out; --set compute.precision=int8 is faster on a processor")
    if is_used(key, recipe) and (key != "data.pretrain_on" or recipe.pretrain.enabled):
        return
    methods = settings_and_groups()[key].methods
    problem, remedy = "without pre-training", "--set pretrain.enabled=true"
    if recipe.method not in methods:
        problem, remedy = f"on method {recipe.method}, only on {' or '.join(methods)}", "leave it out"
        if key == "calibration.held_out_fraction":
            remedy = "leave it out: all good images set the threshold; --set calibration.folds=0 trains without one"
    raise UserError(f"{key} has no effect {problem}", place, remedy)


def checked_value(key: str, entry: Entry) -> Any:
    """The value in the type of its setting: a whole number may become a float, a list becomes a tuple.

    Raises:
        UserError: another type, an unknown choice, or a number outside the limits of the setting.
    """
    setting = settings_and_groups()[key]
    if entry.value is None and type(None) in setting.types:
        return None
    value = _converted(key, setting.types[0], entry)
    if setting.limits is not None:
        low, high = setting.limits
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:
                raise _wrong(key, number, f"between {_plain(low)} and {_plain(high)}", entry.place)
    return value


def _plain(limit: int | float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _converted(key: str, kind: Any, entry: Entry) -> Any:
    value = entry.value
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value in choices:
            return value
        near = get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise _wrong(key, value, f"one of {', '.join(choices)}{hint}", entry.place)
    if get_origin(kind) is tuple:
        return _converted_items(key, get_args(kind), entry)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is not float and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _wrong(key, value, _TYPE_NAMES[kind], entry.place)


def _converted_items(key: str, kinds: tuple[Any, ...], entry: Entry) -> tuple[Any, ...]:
    """The items of a ``tuple[int, ...]`` or of a ``tuple[float, float]``; a single value need not be a list."""
    items = entry.value if isinstance(entry.value, list | tuple) else [entry.value]
    if Ellipsis not in kinds and len(items) != len(kinds):
        raise _wrong(key, entry.value, f"{len(kinds)} values", entry.place)
    if not items:
        raise _wrong(key, entry.value, "one value or more", entry.place)
    return tuple(_converted(key, kinds[0], Entry(item, entry.place)) for item in items)


def _wrong(key: str, value: Any, rule: str, place: str) -> UserError:
    default = dict(values_of(Recipe()))[key]
    default = "null" if default is None else list(default) if isinstance(default, tuple) else default
    shown = "null" if value is None else f"{value:g}" if type(value) is float else repr(value)
    return UserError(f"{key} is {shown}, must be {rule}", place, f"change it, or leave it out (default {default})")


def cross_check(recipe: Recipe) -> None:
    """Refuse settings that contradict each other.

    Raises:
        UserError: with the names of both settings.
    """
    for problem, place, remedy in (*_in_data(recipe), *_in_training(recipe), *_in_scoring(recipe)):
        raise UserError(problem, place, remedy)


def _in_data(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Contradictions: problem, place and remedy of each."""
    pretrain_on, mask_pattern = recipe.data.pretrain_on, recipe.data.mask_pattern
    if pretrain_on is not None and not pretrain_on.strip():
        remedy = "name a data location, or give null to pre-train on the category alone"
        yield "data.pretrain_on is empty", "data.pretrain_on", remedy
    tiles = recipe.data.tiles
    if tiles not in ("auto", "none") and not (tiles.isdecimal() and 28 <= int(tiles) <= 100_000):
        problem = f"data.tiles is {tiles!r}, must be auto, none, or a side from 28 to 100000 px"
        yield problem, "data.tiles", "--set data.tiles=auto chooses the side"
    if recipe.data.smallest_defect_px is not None and tiles != "auto":
        problem = f"data.smallest_defect_px has no effect with data.tiles {tiles}"
        yield problem, "data.smallest_defect_px", "--set data.tiles=auto, which chooses tiles that fit the defect"
    if (problem := _wrong_pattern(recipe.data.group_by)) is not None:
        remedy = "write folder, image, or a file name with {group} for the group and * for any text: '{group}_*'"
        yield f"data.group_by is {recipe.data.group_by!r}, {problem}", "data.group_by", remedy
    if (problem := _wrong_product_pattern(recipe.data.product_by)) is not None:
        remedy = "write folder, or a file name with {product} for the product and * for any text: '{product}_*'"
        yield f"data.product_by is {recipe.data.product_by!r}, {problem}", "data.product_by", remedy
    if "{stem}" not in mask_pattern:
        remedy = 'put {stem} in place of the image\'s name, for example "{stem}_mask"'
        yield f"data.mask_pattern is {mask_pattern!r}, without {{stem}}", "data.mask_pattern", remedy


def _wrong_pattern(group_by: str | None) -> str | None:
    """What is wrong with a pattern of groups; None where nothing is."""
    return None if group_by in (None, "folder", "image") else _wrong_around("group", group_by)


def _wrong_product_pattern(product_by: str | None) -> str | None:
    return None if product_by in (None, "folder") else _wrong_around("product", product_by)


def _wrong_around(name: str, pattern: str) -> str | None:
    """What is wrong with a pattern in which ``{name}`` stands for what is looked for; None where nothing is."""
    if pattern.count(f"{{{name}}}") != 1:
        return f"and has to hold {{{name}}} once"
    if re.search(rf"\*[*?]*\{{{name}\}}|\{{{name}\}}[*?]*\*", pattern):
        return f"which does not say where the {name} ends: put a sign between {{{name}}} and *"
    return None


def _in_training(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    for name, stage in (("pretrain", recipe.pretrain), ("finetune", recipe.finetune)):
        if (stage.epochs is None) == (stage.steps is None):
            problem = f"{name}.epochs is {stage.epochs} and {name}.steps is {stage.steps}"
            yield problem, name, f"give one of them, for example --set {name}.steps=null"
    if recipe.finetune.detection_weight == recipe.finetune.segmentation_weight == 0:
        problem = "finetune.detection_weight and finetune.segmentation_weight are both 0"
        yield problem, "finetune", "set at least one of them above 0, or nothing is learned"
    for name, count in (("devices", recipe.compute.devices), ("nodes", recipe.compute.nodes)):
        if count > 1 and not recipe.trains_encoder:
            problem = f"compute.{name} is {count}, but the method {recipe.method} computes on one device"
            remedy = f"--set compute.{name}=1; several {name} share the paper's stages only"
            yield problem, f"compute.{name}", remedy
    if recipe.compute.precision == "int8" and recipe.method == "paper":
        problem = "compute.precision is int8, but the method paper trains its encoder, which int8 cannot"
        yield problem, "compute.precision", "--set compute.precision=auto"
    for name in ("pretrain", "finetune"):
        batch_size, processes = getattr(recipe, name).batch_size, recipe.compute.devices * recipe.compute.nodes
        if batch_size % processes:
            count = "compute.devices" if recipe.compute.nodes == 1 else "compute.nodes x compute.devices"
            problem = f"{name}.batch_size is {batch_size}, not a multiple of {count} {processes}"
            yield problem, name, "the devices share every batch evenly: change one of them"
    for name, simulation in (("finetune", recipe.finetune.simulation), ("residual", recipe.residual.simulation)):
        for low, high in (("min_size", "max_size"), ("min_scale", "max_scale")):
            smallest, largest = getattr(simulation, low), getattr(simulation, high)
            if smallest > largest:
                yield f"{low} is {smallest:g}, above {high} {largest:g}", f"{name}.simulation", "swap them"


def _in_scoring(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Methods on tokens make no decision at each test size that could be put to a vote."""
    if recipe.method == "paper":
        return
    if recipe.detect.image_score not in ("mean_logit", "map_max"):
        problem = f"method {recipe.method} has no votes, but detect.image_score is {recipe.detect.image_score}"
        yield problem, "detect.image_score", "--set detect.image_score=mean_logit, or --set method=paper"
    if recipe.calibration.folds == 1:
        remedy = "--set calibration.folds=5, or 0 to train without a threshold"
        yield "calibration.folds is 1, but each fold is scored by the others", "calibration.folds", remedy
    blocks = list(recipe.memory.blocks)
    if blocks != sorted(set(blocks)):
        yield f"memory.blocks is {blocks}", "memory.blocks", "list each block once, in ascending order"
    for name in ("map_weights", "image_weights"):
        if not any(getattr(recipe.fusion, name)):
            yield f"fusion.{name} are all 0", f"fusion.{name}", "set at least one of them above 0"
