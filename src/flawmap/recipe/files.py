"""Recipes as YAML files: strict reading, presets, ``--set`` overrides, and writing them out again.

Scalars are read as YAML 1.2 has them: ``5e-4`` is a number and ``no`` is text. PyYAML alone follows YAML 1.1, where
it is the other way round.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_origin

import yaml

from flawmap.errors import UserError
from flawmap.recipe.fields import (
    SEE_ALL,
    Entry,
    checked_value,
    options_of,
    refuse_unless_setting,
    sections,
    settings,
    values_of,
)
from flawmap.recipe.ranges import cross_check
from flawmap.recipe.settings import Recipe

PRESETS = ("quick", "standard", "paper", "chest_xray", "paper_chest_xray", "paper_cpu", "paper_cpu_chest_xray", "demo")


class _Reader(yaml.SafeLoader):
    """YAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's way to say which text is a number)


class _Writer(yaml.SafeDumper):
    """Quotes all text that YAML 1.1 or 1.2 would read as something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Line ends other than a line feed must be escaped: outside double quotes they are read as spaces."""
        style = '"' if re.search("[\r\x85\u2028\u2029]", text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Writer.add_representer(str, _Writer.represent_text)
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    for _kind in (_Reader, _Writer):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _first)


def load_recipe(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: a preset's name, a YAML file, or None for the defaults (the letter of the paper). A file may name
            another recipe as its ``base`` (a preset, or a path relative to the file) and change parts of it. What
            a file leaves out keeps its default.
        overrides: settings such as ``pretrain.masking.drop_ratio=0.15``, applied last, in order. Text is taken as
            it stands; anything else is read as YAML.

    ``epochs`` and ``steps`` are two ways to say one thing: the one that was said last replaces the other.

    Raises:
        UserError: no such recipe, an unknown or repeated key, a wrong type, a value out of range, or settings that
            contradict each other; with file and line.
    """
    entries = _entries_of_file(recipe_path(source), ()) if source is not None else {}
    changes: dict[str, Entry] = {}
    for override in overrides:
        changes.update(_entry_of_override(override))
    _merge(entries, changes)
    recipe = _build(Recipe(), "", {key: checked_value(key, entry) for key, entry in entries.items()})
    cross_check(recipe)
    return recipe


def validate(recipe: Recipe) -> None:
    """Hold a recipe that was built in Python to the rules of recipe files.

    Raises:
        UserError: as :func:`load_recipe`; its place is the setting's name.
    """
    for key, value in values_of(recipe):
        checked_value(key, Entry(value, key))
    cross_check(recipe)


def recipe_path(source: str | Path) -> Path:
    """The file of a preset's name or of a path.

    Raises:
        UserError: neither.
    """
    if str(source) in PRESETS:
        return preset_path(str(source))
    path = Path(source)
    if path.is_file():
        return path
    if (path / "recipe.yaml").is_file():
        raise UserError(f"{path} is a folder, not a recipe", "--recipe", f"--recipe {path / 'recipe.yaml'}")
    choices = f"presets are {', '.join(PRESETS)}; or give the path of a YAML file"
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"no such recipe file: {path}", f"you are in {Path.cwd()}", choices)
    near = get_close_matches(str(source), PRESETS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"no recipe called {str(source)!r}{hint}", "--recipe", choices)


def preset_path(name: str) -> Path:
    """Where a preset lies: in the installed package, or in the repository's recipes folder."""
    installed = Path(__file__).parents[1] / "recipes" / f"{name}.yaml"
    return installed if installed.is_file() else Path(__file__).parents[3] / "recipes" / f"{name}.yaml"


def recipe_header(path: str | Path) -> str:
    """The comment that a recipe file begins with, without its "# "; "" where there is none."""
    lines = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
    return "\n".join(lines)


def to_yaml(recipe: Recipe) -> str:
    """The complete recipe; :func:`load_recipe` reads it back to an equal one."""
    return yaml.dump(_plain(recipe), Dumper=_Writer, sort_keys=False, allow_unicode=True, width=2**31)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return list(value) if isinstance(value, tuple) else value


def _entries_of_file(path: Path, seen: tuple[Path, ...]) -> dict[str, Entry]:
    """Settings of a file by their dotted names, on top of those of its base."""
    if path.resolve() in seen:
        raise UserError("a recipe is its own base", str(path), "remove one `base:` line")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Reader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _unreadable(error, str(path)) from error
    own: dict[str, Entry] = {}
    if node is not None:
        _collect(node, "", path, own)
    entries: dict[str, Entry] = {}
    if (base := own.pop("base", None)) is not None:
        if not isinstance(base.value, str):
            raise UserError(
                f"base is {base.value!r}, must be a recipe", base.place, f"one of {', '.join(PRESETS)}, or a path"
            )
        base_path = preset_path(base.value) if base.value in PRESETS else path.parent / base.value
        if not base_path.is_file():
            near = get_close_matches(base.value, PRESETS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(
                f"no such base: {base_path}{hint}", base.place, "paths are relative to the file that names them"
            )
        entries = _entries_of_file(base_path, (*seen, path.resolve()))
    _merge(entries, own)
    return entries


def _collect(node: yaml.Node, prefix: str, path: Path, into: dict[str, Entry]) -> None:
    """Put the settings below ``node`` into ``into``, with their lines."""
    if not isinstance(node, yaml.MappingNode):
        raise UserError("a recipe is a list of `name: value` lines", f"{path} line {node.start_mark.line + 1}", SEE_ALL)
    names: set[str] = set()
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value if isinstance(key_node, yaml.ScalarNode) else '[...]'}"
        place = f"{path} line {key_node.start_mark.line + 1}"
        if key in names:
            raise UserError(f"{key} is given twice", place, "remove one of the lines")
        names.add(key)
        if key in sections() and isinstance(value_node, yaml.MappingNode):
            _collect(value_node, f"{key}.", path, into)
            continue
        if key != "base":
            refuse_unless_setting(key, place)
        into[key] = Entry(_construct(value_node, place), place)


def _construct(node: yaml.Node, place: str) -> Any:
    loader = _Reader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:  # a tag that the safe loader does not know
        raise _unreadable(error, place) from error
    finally:
        loader.dispose()


def _entry_of_override(override: str) -> dict[str, Entry]:
    place = f"--set {override}"
    key, equals, text = (part.strip() for part in override.partition("="))
    if not equals:
        raise UserError(f"--set {override} has no value", place, "write --set a.b=c")
    refuse_unless_setting(key, place)
    options = options_of(settings()[key])
    if (str in options or get_origin(options[0]) is Literal) and not text.startswith(("'", '"')):
        is_null = text in ("", "~", "null") and type(None) in options
        return {key: Entry(None if is_null else text, place)}  # "{stem}_mask" would be a mapping to YAML
    try:
        node = yaml.compose(text, Loader=_Reader)
    except yaml.YAMLError as error:
        raise UserError(f"the value of {key} cannot be read", place, "write it as in a recipe file") from error
    return {key: Entry(_construct(node, place) if node is not None else None, place)}


def _merge(entries: dict[str, Entry], changes: Mapping[str, Entry]) -> None:
    """Put ``changes`` on top of ``entries``; epochs replace steps that were said before, and the other way round."""
    for epochs, steps in (("pretrain.epochs", "pretrain.steps"), ("finetune.epochs", "finetune.steps")):
        said = [key for key in (epochs, steps) if key in changes and changes[key].value is not None]
        if len(said) == 1:
            entries[steps if said == [epochs] else epochs] = Entry(None, changes[said[0]].place)
    entries.update(changes)


def _unreadable(error: Exception, place: str) -> UserError:
    mark = getattr(error, "problem_mark", None)
    line = f" line {mark.line + 1}" if mark is not None and " line " not in place else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return UserError(f"the recipe cannot be read: {problem}", f"{place}{line}", "mend the YAML")


def _build(default: Any, prefix: str, values: Mapping[str, Any]) -> Any:
    """``default`` with the values that were given; a group within a group has the defaults that its owner gives it."""
    chosen = {}
    for field in fields(default):
        name, own = field.name, getattr(default, field.name)
        if is_dataclass(own):
            chosen[name] = _build(own, f"{prefix}{name}.", values)
        elif f"{prefix}{name}" in values:
            chosen[name] = values[f"{prefix}{name}"]
    return replace(default, **chosen)
