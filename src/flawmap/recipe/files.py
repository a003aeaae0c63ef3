"""Recipes as YAML files: strict reading, presets, ``--set`` overrides, and writing.

Scalars are read by the rules of YAML 1.2: ``5e-4`` is a number and ``no`` is text. PyYAML alone follows YAML 1.1, where
it is the other way round.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_origin

import yaml

from flawmap.errors import UserError
from flawmap.recipe.checks import SEE_ALL, Entry, checked_value, cross_check, refuse_unless_setting
from flawmap.recipe.fields import resolved, settings_and_groups, used_values, values_of, with_values
from flawmap.recipe.retired import BEFORE_THE_SETTING, RETIRED, refuse_retired
from flawmap.recipe.settings import DataSettings, Recipe

PRESETS = ("quick", "standard", "chest_xray", "demo", "paper", "paper_chest_xray", "paper_cpu", "paper_cpu_chest_xray")


class _Reader(yaml.SafeLoader):
    """YAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (how PyYAML is told which text is a number)


class _Writer(yaml.SafeDumper):
    """Quotes all text that YAML 1.1 or 1.2 would read as something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Line breaks are escaped, which takes double quotes, so that every setting stays on its line."""
        style = '"' if re.search("[\n\r\x85\u2028\u2029]", text) else None
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


def load_recipe(source: str | Path | None = None, overrides: Sequence[str] = (), is_of_model: bool = False) -> Recipe:
    """Read a recipe.

    Args:
        source: a preset's name, a YAML file, or None for the defaults, the recommended method. A file may name
            another recipe as its ``base`` (a preset, or a path relative to the file) and change parts of it. A
            setting that a file leaves out has its default.
        overrides: settings such as ``memory.tokens=5000``, applied last, in order. Text is taken literally; anything
            else is read as YAML.
        is_of_model: the recipe says how a model was trained, which is a fact. Settings that are gone since then may
            have any value, and settings without effect may be there. A setting that did not exist yet has the value
            that says what was done then.

    ``epochs`` and ``steps`` are two ways to state the length of a stage: the one given last replaces the other.

    Returns:
        the recipe; what its method does not use has its default.

    Raises:
        UserError: no such recipe, an unknown or repeated key, a wrong type, a value out of range, settings that
            contradict each other, or a file whose method does not use what it sets; with file and line.
    """
    path = recipe_path(source) if source is not None else None
    entries = _entries_of_file(path, (), is_of_model) if path is not None else {}
    if path is not None and is_of_model:
        entries = {key: Entry(value, str(path)) for key, value in BEFORE_THE_SETTING.items()} | entries
    from_file = dict(entries)
    changes: dict[str, Entry] = {}
    for override in overrides:
        changes.update(_entry_of_override(override))
    _merge(entries, changes)
    recipe = with_values(Recipe(), {key: checked_value(key, entry) for key, entry in entries.items()})
    cross_check(recipe)
    if path is not None and not is_of_model:
        _refuse_what_no_method_here_uses(from_file, path, recipe.method)
    return resolved(recipe)


def _refuse_what_no_method_here_uses(entries: Mapping[str, Entry], path: Path, method: str) -> None:
    """Refuse settings of the file itself, not of its base, that neither its own method nor ``method`` uses."""
    own_method = entries["method"].value if "method" in entries else Recipe().method
    for key, entry in entries.items():
        methods = settings_and_groups()[key].methods
        is_default = entry.value == dict(values_of(Recipe()))[key]  # a recipe that flawmap wrote names all settings
        if entry.value is None or is_default or own_method in methods or method in methods:
            continue
        if not entry.place.startswith(f"{path} line "):
            continue
        remedy = "leave it out, or name a base that uses it"
        if methods == ("paper",):
            remedy = "leave it out, or begin the file with `base: paper` or `base: paper_cpu`"
        raise UserError(f"{key} has no effect on method {method}, only on {' or '.join(methods)}", entry.place, remedy)


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
        raise UserError(f"{path} is a folder, not a recipe", "", f"name the file in it: {path / 'recipe.yaml'}")
    choices = f"presets are {', '.join(PRESETS)}; or give the path of a YAML file"
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"no such recipe file: {path}", f"you are in {Path.cwd()}", choices)
    raise UserError(f"no recipe called {str(source)!r}{_near_preset(str(source))}", "", choices)


def preset_path(name: str) -> Path:
    """The file of a preset: in the installed package, or in the repository's recipes folder."""
    installed = Path(__file__).parents[1] / "recipes" / f"{name}.yaml"
    return installed if installed.is_file() else Path(__file__).parents[3] / "recipes" / f"{name}.yaml"


def preset_summary(name: str) -> str:
    """The first line of a preset's file: a comment that tells what it is for."""
    with preset_path(name).open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def to_yaml(recipe: Recipe) -> str:
    """All settings that the recipe's method uses, each with its meaning; :func:`load_recipe` reads an equal recipe."""
    return "".join(f"{line}\n" for line in _yaml_lines(used_values(recipe), ""))


def _yaml_lines(group: Mapping[str, Any], prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, value in group.items():
        meaning = settings_and_groups()[f"{prefix}{name}"].meaning
        if isinstance(value, dict):
            yield f"{indent}{name}:  # {meaning}"
            yield from _yaml_lines(value, f"{prefix}{name}.")
        else:
            text = yaml.dump(value, Dumper=_Writer, default_flow_style=True, allow_unicode=True, width=2**31)
            text = text.removesuffix("\n").removesuffix("\n...")  # the end of a document that is one bare scalar
            yield f"{indent}{name}: {text}  # {meaning}"


def _entries_of_file(path: Path, seen: tuple[Path, ...], is_of_model: bool = False) -> dict[str, Entry]:
    """The settings in a file by their dotted names, on top of those of its base."""
    if path.resolve() in seen:
        raise UserError("a recipe is its own base", str(path), "remove one `base:` line")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Reader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _unreadable(error, str(path)) from error
    own: dict[str, Entry] = {}
    if node is not None:
        _collect(node, "", path, own)
    for key in RETIRED.keys() & own.keys():
        gone = own.pop(key)
        if not is_of_model:
            refuse_retired(key, gone.value, gone.place)
    entries: dict[str, Entry] = {}
    if (base := own.pop("base", None)) is not None:
        entries = _entries_of_file(_base_path(base, path), (*seen, path.resolve()), is_of_model)
    _merge(entries, own)
    return entries


def _base_path(base: Entry, path: Path) -> Path:
    """The file that the recipe in ``path`` names as its base."""
    if not isinstance(base.value, str):
        choices = f"one of {', '.join(PRESETS)}, or a path"
        raise UserError(f"base is {base.value!r}, must be a recipe", base.place, choices)
    if base.value in PRESETS:
        return preset_path(base.value)
    base_path = path.parent / base.value
    if not base_path.is_file():
        problem = f"no such base: {base_path}{_near_preset(base.value)}"
        raise UserError(problem, base.place, "paths are relative to the file that names them")
    return base_path


def _near_preset(name: str) -> str:
    near = get_close_matches(name, PRESETS, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _collect(node: yaml.Node, prefix: str, path: Path, into: dict[str, Entry]) -> None:
    """Put the settings below ``node`` into ``into``, with their lines."""
    if not isinstance(node, yaml.MappingNode):
        raise UserError("a recipe consists of `name: value` lines", f"{path} line {node.start_mark.line + 1}", SEE_ALL)
    names: set[str] = set()
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value if isinstance(key_node, yaml.ScalarNode) else '[...]'}"
        place = f"{path} line {key_node.start_mark.line + 1}"
        if key in names:
            raise UserError(f"{key} is given twice", place, "remove one of the lines")
        names.add(key)
        setting = settings_and_groups().get(key)
        if setting is not None and setting.is_group and isinstance(value_node, yaml.MappingNode):
            _collect(value_node, f"{key}.", path, into)
            continue
        if key != "base" and key not in RETIRED:
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
    if key in RETIRED:
        refuse_retired(key, text, place)
    refuse_unless_setting(key, place)
    types = settings_and_groups()[key].types
    if (str in types or get_origin(types[0]) is Literal) and not text.startswith(("'", '"')):
        is_null = text in ("", "~", "null") and type(None) in types
        return {key: Entry(None if is_null else text, place)}  # "{stem}_mask" would be a mapping to YAML
    try:
        node = yaml.compose(text, Loader=_Reader)
    except yaml.YAMLError as error:
        raise UserError(f"the value of {key} cannot be read", place, "write it as in a recipe file") from error
    return {key: Entry(_construct(node, place) if node is not None else None, place)}


def _merge(entries: dict[str, Entry], changes: Mapping[str, Entry]) -> None:
    """Put ``changes`` on top of ``entries``; epochs replace steps that were given before, and the other way round."""
    for epochs, steps in (("pretrain.epochs", "pretrain.steps"), ("finetune.epochs", "finetune.steps")):
        given = [key for key in (epochs, steps) if key in changes and changes[key].value is not None]
        if len(given) == 1:
            entries[steps if given == [epochs] else epochs] = Entry(None, changes[given[0]].place)
    entries.update(changes)


def _unreadable(error: Exception, place: str) -> UserError:
    mark = getattr(error, "problem_mark", None)
    line = f" line {mark.line + 1}" if mark is not None and " line " not in place else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return UserError(f"the recipe cannot be read: {problem}", f"{place}{line}", "fix the YAML")


def with_data_overrides(own: DataSettings, overrides: Sequence[str]) -> DataSettings:
    """A run's data settings with ``--set data.NAME=VALUE`` on top of them.

    Raises:
        UserError: an override of anything else; or as :func:`load_recipe`.
    """
    for override in overrides:
        if not override.strip().startswith("data."):
            raise UserError(
                f"--set {override} does not concern how the data is read",
                "--set",
                "only data.NAME=VALUE changes without a new training",
            )
    checked = load_recipe(None, overrides).data
    names = {override.partition("=")[0].strip().removeprefix("data.") for override in overrides}
    return replace(own, **{name: getattr(checked, name) for name in names})
