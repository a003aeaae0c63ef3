"""Recipes as YAML files: strict reading, presets, ``--set`` overrides, and writing them out again."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from flawmap.errors import UserError
from flawmap.recipe import Recipe
from flawmap.recipe_ranges import RANGES, cross_check

PRESETS = ("quick", "standard", "paper", "chest_xray", "paper_chest_xray", "demo")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A value of a recipe file and where it stands ("recipes/my.yaml line 6" or "--set a.b=c")."""

    value: Any
    place: str


def load_recipe(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: a preset's name, a YAML file, or None for the defaults (the letter of the paper). A file may name
            another recipe as its ``base`` and change parts of it.
        overrides: settings such as ``pretrain.masking.drop_ratio=0.15``, applied last, in order.

    Raises:
        UserError: no such recipe, an unknown key, a wrong type, a value out of range, or settings that contradict
            each other; with file and line.
    """
    entries = _entries_of(recipe_path(source), ()) if source is not None else {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--set {override} has no value", "--set", "write --set a.b=c")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"the value of {name} is no YAML", f"--set {override}", "quote it") from error
        _merge(entries, _flatten(value, name.strip(), f"--set {override}"))
    recipe = _build(Recipe, "", entries)
    cross_check(recipe)
    return recipe


def recipe_path(source: str | Path) -> Path:
    """The file of a preset's name or of a path.

    Raises:
        UserError: neither.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"no such recipe file: {path}", f"you are in {Path.cwd()}", f"use a preset: {', '.join(PRESETS)}")
        return path
    if str(source) in PRESETS:
        return preset_path(str(source))
    near = get_close_matches(str(source), PRESETS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"no recipe called {str(source)!r}", "--recipe", f"{hint}presets are {', '.join(PRESETS)}; a file ends in .yaml"
    )


def preset_path(name: str) -> Path:
    """Where a preset lies: in the installed package, or in the repository's recipes folder."""
    installed = Path(__file__).parent / "recipes" / f"{name}.yaml"
    return installed if installed.is_file() else Path(__file__).parents[2] / "recipes" / f"{name}.yaml"


def to_yaml(recipe: Recipe) -> str:
    """The complete recipe; :func:`load_recipe` reads it back to an equal one."""
    return yaml.safe_dump(_plain(recipe), sort_keys=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _entries_of(path: Path, seen: tuple[Path, ...]) -> dict[str, Entry]:
    """Dotted keys of a file, on top of those of its base."""
    if path in seen:
        raise UserError("a recipe is its own base", str(path), "remove one `base:` line")
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = f" line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise UserError(f"the recipe cannot be read: {str(error).splitlines()[0]}", f"{path}{line}", "mend the YAML") from error
    own: dict[str, Entry] = {}
    if node is not None:
        _flatten_node(node, "", path, own)
    base = own.pop("base", None)
    entries: dict[str, Entry] = {}
    if base is not None:
        name = str(base.value)
        base_path = path.parent / name if name.endswith((".yaml", ".yml")) else recipe_path(name)
        entries = _entries_of(base_path, (*seen, path))
    _merge(entries, own)
    return entries


def _flatten_node(node: yaml.Node, prefix: str, path: Path, into: dict[str, Entry]) -> None:
    """Dotted keys with their line numbers; a key given twice is an error."""
    place = f"{path} line {node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        if not prefix:
            raise UserError("a recipe is a mapping of settings", place, "write `seed: 0` and so on")
        into[prefix] = Entry(_construct(node), place)
        return
    for key_node, value_node in node.value:
        name = f"{prefix}.{key_node.value}" if prefix else str(key_node.value)
        key_place = f"{path} line {key_node.start_mark.line + 1}"
        if any(known == name or known.startswith(f"{name}.") for known in into):
            raise UserError(f"{name} is given twice", key_place, "remove one of the lines")
        if isinstance(value_node, yaml.MappingNode):
            if not _is_section(name):
                raise _unknown(name, key_place)
            _flatten_node(value_node, name, path, into)
        else:
            into[name] = Entry(_construct(value_node), key_place)


def _construct(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _flatten(value: Any, prefix: str, place: str) -> dict[str, Entry]:
    if isinstance(value, Mapping):
        return {k: e for name, inner in value.items() for k, e in _flatten(inner, f"{prefix}.{name}", place).items()}
    return {prefix: Entry(value, place)}


def _merge(entries: dict[str, Entry], changes: Mapping[str, Entry]) -> None:
    entries.update(changes)


def _is_section(name: str) -> bool:
    kind: Any = Recipe
    for part in name.split("."):
        hints = typing.get_type_hints(kind) if is_dataclass(kind) else {}
        if part not in hints:
            return False
        kind = hints[part]
    return is_dataclass(kind)


def _all_keys(kind: Any = Recipe, prefix: str = "") -> list[str]:
    keys = []
    for name, hint in typing.get_type_hints(kind).items():
        keys += _all_keys(hint, f"{prefix}{name}.") if is_dataclass(hint) else [f"{prefix}{name}"]
    return keys


def _unknown(name: str, place: str) -> UserError:
    known = _all_keys()
    by_last = {key.rpartition(".")[2]: key for key in known}
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    if not near:
        last = get_close_matches(name.rpartition(".")[2], by_last, n=1, cutoff=0.6)
        near = [by_last[last[0]]] if last else []
    hint = f"; did you mean {near[0]}?" if near else ""
    return UserError(f"unknown key {name}{hint}", place, "flawmap recipe prints all settings")


def _build(kind: Any, prefix: str, entries: Mapping[str, Entry]) -> Any:
    """A dataclass from its defaults and the entries under ``prefix``; checks names, types and ranges."""
    if not prefix:
        known = set(_all_keys())
        for name, entry in entries.items():
            if name not in known:
                if _is_section(name):
                    raise UserError(f"{name} is a group of settings, not a value", entry.place, f"set {name}.NAME")
                raise _unknown(name, entry.place)
    values = {}
    for name, hint in typing.get_type_hints(kind).items():
        key = f"{prefix}{name}"
        if is_dataclass(hint):
            values[name] = _build(hint, f"{key}.", entries)
        elif key in entries:
            values[name] = _checked(key, hint, entries[key])
    return kind(**values)


def _checked(key: str, hint: Any, entry: Entry) -> Any:
    value = _converted(key, hint, entry)
    if value is not None and key in RANGES:
        low, high = RANGES[key]
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:
                raise UserError(f"{key} is {number:g}, must be between {low:g} and {high:g}", entry.place, f"change {key}")
    return value


def _converted(key: str, hint: Any, entry: Entry) -> Any:
    """``entry``'s value as the field's type."""
    value, origin = entry.value, get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return None if value is None else _converted(key, options[0], entry)
    if origin is Literal:
        choices = get_args(hint)
        if value in choices:
            return value
        near = get_close_matches(str(value), [str(choice) for choice in choices], n=1)
        hint_text = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{key} is {value!r}, must be one of {', '.join(map(str, choices))}{hint_text}", entry.place, f"change {key}")
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise UserError(f"{key} is empty", entry.place, f"give {key} at least one value")
        return tuple(_converted(key, get_args(hint)[0], Entry(item, entry.place)) for item in items)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and not isinstance(value, bool):
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):  # YAML 1.1 reads 5e-4 as text
            try:
                return float(value)
            except ValueError:
                pass
    if hint is str and isinstance(value, str):
        return value
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    raise UserError(f"{key} is {value!r}, must be {names.get(hint, hint)}", entry.place, f"change {key}")
