"""The settings of a recipe by their dotted names, and what each may be: its name, its type, its range."""

from collections.abc import Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from flawmap.errors import UserError
from flawmap.recipe.settings import Recipe

SEE_ALL = "flawmap recipe prints all settings"

_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Entry:
    """A value of a recipe file and where it stands ("recipes/my.yaml line 6" or "--set a.b=c")."""

    value: Any
    place: str


@cache
def settings() -> dict[str, Any]:
    """Annotation of every setting, by its dotted name."""
    return {key: hint for key, hint in _walk(Recipe, "") if not is_dataclass(hint)}


@cache
def ranges() -> dict[str, tuple[int | float, int | float]]:
    """Smallest and largest number of every setting that has a range, by its dotted name."""
    found = {key: field.metadata.get("range") for key, field in _fields(Recipe, "")}
    return {key: limits for key, limits in found.items() if limits is not None}


def _fields(kind: Any, prefix: str) -> Iterator[tuple[str, Field]]:
    hints = get_type_hints(kind)
    for one in fields(kind):
        yield f"{prefix}{one.name}", one
        if is_dataclass(hints[one.name]):
            yield from _fields(hints[one.name], f"{prefix}{one.name}.")


@cache
def sections() -> frozenset[str]:
    """Dotted names of the groups of settings."""
    return frozenset(key for key, hint in _walk(Recipe, "") if is_dataclass(hint))


def _walk(kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(kind).items():
        yield f"{prefix}{name}", hint
        if is_dataclass(hint):
            yield from _walk(hint, f"{prefix}{name}.")


def values_of(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a recipe, or of a part of one, with its value."""
    for field in fields(group):
        value = getattr(group, field.name)
        if is_dataclass(value):
            yield from values_of(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def refuse_unless_setting(key: str, place: str) -> None:
    """Raises: UserError: ``key`` is no setting; with the one that was probably meant."""
    if key in settings():
        return
    if key in sections():
        raise UserError(f"{key} is a group of settings, not a value", place, f"set its parts: {key}.NAME")
    known = [*settings(), *sections()]
    parent, _, last = key.rpartition(".")
    near = [name for name in known if name.endswith(f".{key}")]  # the right name, but not the whole way to it
    for candidates in ([name for name in known if name.rpartition(".")[0] == parent], known):
        lasts = get_close_matches(last, {name.rpartition(".")[2] for name in candidates}, n=1, cutoff=0.7)
        near = near or [name for name in candidates if lasts and name.rpartition(".")[2] == lasts[0]]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"unknown key {key}{hint}", place, SEE_ALL)


def options_of(hint: Any) -> tuple[Any, ...]:
    """The types of ``int | None``; of a plain type, itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def checked_value(key: str, entry: Entry) -> Any:
    """The value in the setting's type: a whole number becomes a float, a list a tuple.

    Raises:
        UserError: another type, another choice, or outside the range in the field's metadata.
    """
    value = _converted(key, settings()[key], entry)
    if value is not None and key in ranges():
        low, high = ranges()[key]
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:
                raise _wrong(key, number, f"between {low:g} and {high:g}", entry.place)
    return value


def _converted(key: str, hint: Any, entry: Entry) -> Any:
    value = entry.value
    if value is None and type(None) in options_of(hint):
        return None
    hint = options_of(hint)[0]
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value in choices:
            return value
        near = get_close_matches(str(value), choices, n=1)
        hint_text = f"; did you mean {near[0]}?" if near else ""
        raise _wrong(key, value, f"one of {', '.join(choices)}{hint_text}", entry.place)
    if get_origin(hint) is tuple:
        items = value if isinstance(value, list | tuple) else [value]  # one size need not be a list
        if not items:
            raise _wrong(key, value, "one value or more", entry.place)
        return tuple(_converted(key, get_args(hint)[0], Entry(item, entry.place)) for item in items)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is not float and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise _wrong(key, value, _TYPE_NAMES[hint], entry.place)


def _wrong(key: str, value: Any, rule: str, place: str) -> UserError:
    default = dict(values_of(Recipe()))[key]
    default = "null" if default is None else list(default) if isinstance(default, tuple) else default
    shown = "null" if value is None else f"{value:g}" if type(value) is float else repr(value)
    return UserError(f"{key} is {shown}, must be {rule}", place, f"change it, or leave it out (default {default})")
