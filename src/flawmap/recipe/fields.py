"""The settings of a recipe by their dotted names, such as ``pretrain.masking.drop_ratio``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from flawmap.recipe.settings import METHODS, Recipe


@dataclass(frozen=True)
class Setting:
    """A field of a recipe: one setting, or a group of them.

    Attributes:
        types: its possible types: ``(int, NoneType)`` for ``int | None``.
        meaning: one line.
        limits: smallest and largest number, both allowed; None where there are none.
        methods: those that use it.
        is_group: whether it holds settings of its own.
    """

    types: tuple[Any, ...]
    meaning: str
    limits: tuple[int | float, int | float] | None
    methods: tuple[str, ...]
    is_group: bool


@cache
def settings_and_groups() -> dict[str, Setting]:
    """Every setting and every group of settings, in the order of the dataclasses."""
    return dict(_walk(Recipe, "", METHODS))


def _walk(kind: Any, prefix: str, methods: tuple[str, ...]) -> Iterator[tuple[str, Setting]]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        users = tuple(method for method in methods if method in field.metadata["methods"])
        types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        meaning, limits = field.metadata["meaning"], field.metadata.get("range")
        yield key, Setting(types, meaning, limits, users, is_dataclass(hint))
        if is_dataclass(hint):
            yield from _walk(hint, f"{key}.", users)


def values_of(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a recipe, or of a part of one, with its value."""
    for field in fields(group):
        value = getattr(group, field.name)
        if is_dataclass(value):
            yield from values_of(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def with_values(group: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A recipe, or a part of one, with other values for the settings named."""
    changes = {}
    for field in fields(group):
        key, value = f"{prefix}{field.name}", getattr(group, field.name)
        if is_dataclass(value):
            changes[field.name] = with_values(value, values, f"{key}.")
        elif key in values:
            changes[field.name] = values[key]
    return replace(group, **changes)


def is_used(key: str, recipe: Recipe) -> bool:
    """Whether the recipe's method depends on a setting or group; on all of stage 1 only if that is enabled."""
    if key.startswith("pretrain.") and key != "pretrain.enabled" and not recipe.pretrain.enabled:
        return False
    return recipe.method in settings_and_groups()[key].methods


def used_values(recipe: Recipe) -> dict[str, Any]:
    """The settings that the recipe's method uses, as nested dictionaries; tuples become lists."""

    def used_in(group: Any, prefix: str) -> dict[str, Any]:
        values = {}
        for field in fields(group):
            key, value = f"{prefix}{field.name}", getattr(group, field.name)
            if is_used(key, recipe):
                part = used_in(value, f"{key}.") if is_dataclass(value) else value
                values[field.name] = list(part) if isinstance(part, tuple) else part
        return values

    return used_in(recipe, "")


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with the default of every setting that its method does not use: recipes that train alike are equal."""
    return with_values(Recipe(), {key: value for key, value in values_of(recipe) if is_used(key, recipe)})
