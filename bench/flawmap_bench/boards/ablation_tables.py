"""What an ablation compares: tables of rows, each a few changes to one common recipe, read from YAML files.

A file holds one table::

    title: Masking ratio (Table 4, bottom)
    rows:
      - name: r = 0.15
        set: {pretrain.masking.drop_ratio: 0.15}
        published: {image: 98.0, pixel: 97.9}

Rows with equal recipes share their runs, and equal stages are trained once, so every table can include the reference
at no cost.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flawmap.errors import UserError
from flawmap.recipe.checks import refuse_unless_setting, refuse_without_effect
from flawmap.recipe.fields import is_used, values_of
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap_bench.boards.published import Published

FOLDER = Path(__file__).parent / "tables"  # the tables that come with flawmap-bench
CPU_BASE = Path(__file__).parent / "cpu.yaml"  # a common recipe that two cores can train

_TABLE_KEYS = {"title", "rows", "needs"}
_ROW_KEYS = {"name", "set", "published"}
_PUBLISHED_KEYS = {"image", "pixel"}
_EXAMPLE = f"see {FOLDER / 'ratio.yaml'}"


@dataclass(frozen=True)
class AblationRow:
    """One variant.

    Attributes:
        name: as printed in the table.
        changes: overrides of the common recipe, such as ``pretrain.masking.drop_ratio=0.15``; none for the reference.
        published: AUROC in % that the paper reports for it.
    """

    name: str
    changes: tuple[str, ...] = ()
    published: Published = field(default_factory=Published)


@dataclass(frozen=True)
class AblationTable:
    """Rows that are compared with each other.

    Attributes:
        key: the file's name without its extension.
        title: above the table.
        rows: at least one.
        needs: a setting without which the rows would not differ, to be given by ``--set``; "" for none.
    """

    key: str
    title: str
    rows: tuple[AblationRow, ...]
    needs: str = ""


def read_tables(names: Sequence[str]) -> tuple[AblationTable, ...]:
    """Read tables.

    Args:
        names: of tables that come with flawmap-bench (``objectives``), or paths of YAML files; empty reads all that
            come with it.

    Raises:
        UserError: there is no such table, or a file is not one.
    """
    shipped = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    if not names:
        return tuple(read_table(path) for path in shipped.values())
    tables = []
    for name in names:
        path = shipped.get(name, Path(name))
        if not path.is_file():
            raise UserError(
                f"there is no ablation table {name!r}", "--table", f"choose {', '.join(shipped)}, or a YAML file"
            )
        tables.append(read_table(path))
    return tuple(tables)


def read_table(path: Path) -> AblationTable:
    """Read one table.

    Raises:
        UserError: the file is not YAML, or a key or value does not belong in a table.
    """
    content = _mapping(_load(path), _TABLE_KEYS, str(path))
    title, rows = content.get("title"), content.get("rows")
    if not isinstance(title, str) or not isinstance(rows, list) or not rows:
        raise UserError("an ablation table has a title and a list of rows", str(path), _EXAMPLE)
    read = tuple(_row(row, f"{path} row {number}") for number, row in enumerate(rows, start=1))
    names = [row.name for row in read]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two rows are called {repeated!r}", str(path), "rename one of them")
    needs = str(content.get("needs", ""))
    if needs:
        refuse_unless_setting(needs, str(path))
    return AblationTable(path.stem, title, read, needs)


def usable_tables(tables: Sequence[AblationTable], base: Recipe, asked_for: bool) -> tuple[AblationTable, ...]:
    """The tables whose rows differ with this base: those that need no setting, and those whose setting it has.

    Args:
        tables: as read.
        base: the common recipe, with ``--set`` applied.
        asked_for: whether the tables were named by the user; a table that cannot be run is then an error.

    Raises:
        UserError: a table that was asked for needs a setting.
    """
    given = dict(values_of(base))
    lacking = [table for table in tables if table.needs and given[table.needs] is None]
    if lacking and asked_for:
        needs = lacking[0].needs
        raise UserError(
            f"the rows of {lacking[0].key} are all equal without {needs}",
            "--table",
            f"--set {needs}=VALUE for all rows",
        )
    return tuple(table for table in tables if table not in lacking)


def row_recipe(base: str | Path, overrides: Sequence[str], row: AblationRow) -> Recipe:
    """The common recipe with the row's changes.

    Raises:
        UserError: a change names no setting, its value is out of range, or it has no effect on this base.
    """
    recipe = load_recipe(base, (*overrides, *row.changes))
    for change in row.changes:
        refuse_without_effect(change.partition("=")[0], recipe, f"row {row.name!r} with the base {base}")
    return recipe


def tables_with_effect(
    tables: Sequence[AblationTable], base: str | Path, overrides: Sequence[str]
) -> tuple[tuple[AblationTable, ...], dict[str, UserError]]:
    """The tables whose every change has an effect on this base, and by key why the others have not."""
    useless: dict[str, UserError] = {}
    for table in tables:
        try:
            for row in table.rows:
                row_recipe(base, overrides, row)
        except UserError as error:
            useless[table.key] = error
    return tuple(table for table in tables if table.key not in useless), useless


def refuse_overrides_without_effect(
    tables: Sequence[AblationTable], base: str | Path, overrides: Sequence[str]
) -> None:
    """Raises: UserError: ``--set`` changes what neither the base nor any row uses."""
    common = load_recipe(base, overrides)
    recipes = [common, *(row_recipe(base, overrides, row) for table in tables for row in table.rows)]
    for override in overrides:
        key = override.partition("=")[0].strip()
        if not any(is_used(key, recipe) for recipe in recipes):
            refuse_without_effect(key, common, f"--set {override}")


def _row(content: Any, place: str) -> AblationRow:
    row = _mapping(content, _ROW_KEYS, place)
    name, changes, published = row.get("name"), row.get("set") or {}, row.get("published") or {}
    if not isinstance(name, str) or not isinstance(changes, dict):
        raise UserError("a row has a name and the settings it changes", place, "name: ..., set: {a.b: c}")
    _mapping(published, _PUBLISHED_KEYS, f"{place}, published")
    numbers: dict[str, Any] = {}
    for kind, value in published.items():
        if not isinstance(value, int | float) or not 0 <= value <= 100:
            raise UserError(f"published.{kind} is {value!r}, must be an AUROC in %", place, "for example 98.3")
        numbers[kind] = float(value)
    overrides = tuple(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changes.items()
    )
    return AblationRow(name, overrides, Published(**numbers))


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the table cannot be read: {reason}", str(path), "fix the YAML") from error


def _mapping(content: Any, known: set[str], place: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"expected {', '.join(sorted(known))}", place, _EXAMPLE)
    unknown = sorted(str(key) for key in content.keys() - known)
    if unknown:
        raise UserError(f"unknown key {unknown[0]}", place, f"choose from {', '.join(sorted(known))}")
    return content
