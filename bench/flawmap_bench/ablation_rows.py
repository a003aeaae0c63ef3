"""What an ablation compares: tables of rows, each a few changes to one common recipe, read from YAML files.

A file holds one table::

    title: Masking ratio (Table 4, bottom)
    rows:
      - name: r = 0.15
        set: {pretrain.masking.drop_ratio: 0.15}
        published: {image: 98.0, pixel: 97.9}

Rows whose recipes come out equal share their runs, and equal stages are trained once, so every table can name the
reference without paying for it again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flawmap.errors import UserError
from flawmap.recipe.checks import refuse_unless_setting
from flawmap.recipe.fields import values_of
from flawmap.recipe.files import preset_path
from flawmap.recipe.settings import Recipe

_TABLE_KEYS = {"title", "rows", "needs"}
_ROW_KEYS = {"name", "set", "published"}
_PUBLISHED_KEYS = {"image", "pixel"}


@dataclass(frozen=True)
class AblationRow:
    """One variant.

    Attributes:
        name: as it stands in the table.
        changes: overrides of the common recipe, such as ``pretrain.masking.drop_ratio=0.15``; none for the reference.
        published: AUROC in % that the paper reports for it, by ``image`` and ``pixel``; empty where it reports none.
    """

    name: str
    changes: tuple[str, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AblationTable:
    """Rows that are compared with each other.

    Attributes:
        key: the file's name without its ending.
        title: above the table.
        rows: at least one.
        needs: a setting without which the rows would not differ, to be given by ``--set``; "" for none.
    """

    key: str
    title: str
    rows: tuple[AblationRow, ...]
    needs: str = ""


def ablation_folder() -> Path:
    """Where the tables lie that come with flawmap."""
    return preset_path("standard").parent / "ablations"


def read_tables(names: Sequence[str]) -> tuple[AblationTable, ...]:
    """Read tables.

    Args:
        names: of tables that come with flawmap (``objectives``), or paths of YAML files; empty reads all that come
            with flawmap.

    Raises:
        UserError: no such table, or a file that is none.
    """
    shipped = {path.stem: path for path in sorted(ablation_folder().glob("*.yaml")) if _is_table(path)}
    if not names:
        return tuple(read_table(path) for path in shipped.values())
    tables = []
    for name in names:
        path = shipped.get(name, Path(name))
        if not path.is_file():
            raise UserError(
                f"no ablation table called {name!r}", "--table", f"one of {', '.join(shipped)}, or a YAML file"
            )
        tables.append(read_table(path))
    return tuple(tables)


def read_table(path: Path) -> AblationTable:
    """Read one table.

    Raises:
        UserError: the file is no YAML, or a key or value is not what a table holds.
    """
    content = _mapping(_load(path), _TABLE_KEYS, str(path))
    title, rows = content.get("title"), content.get("rows")
    if not isinstance(title, str) or not isinstance(rows, list) or not rows:
        raise UserError("an ablation table has a title and a list of rows", str(path), "see recipes/ablations")
    read = tuple(_row(row, f"{path} row {number}") for number, row in enumerate(rows, start=1))
    names = [row.name for row in read]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two rows are called {twice!r}", str(path), "rename one of them")
    needs = str(content.get("needs", ""))
    if needs:
        refuse_unless_setting(needs, str(path))
    return AblationTable(path.stem, title, read, needs)


def usable_tables(tables: Sequence[AblationTable], base: Recipe, asked_for: bool) -> tuple[AblationTable, ...]:
    """The tables whose rows differ with this base: those that need no setting, or find it there.

    Args:
        tables: as read.
        base: the common recipe, with what was ``--set``.
        asked_for: whether the tables were named one by one; a table that cannot be run is then an error.

    Raises:
        UserError: a table that was asked for needs a setting.
    """
    given = dict(values_of(base))
    lacking = [table for table in tables if table.needs and given[table.needs] is None]
    if lacking and asked_for:
        needs = lacking[0].needs
        raise UserError(
            f"the rows of {lacking[0].key} are all alike without {needs}",
            "--table",
            f"--set {needs}=VALUE for all rows",
        )
    return tuple(table for table in tables if table not in lacking)


def _row(content: Any, place: str) -> AblationRow:
    row = _mapping(content, _ROW_KEYS, place)
    name, changes, published = row.get("name"), row.get("set") or {}, row.get("published") or {}
    if not isinstance(name, str) or not isinstance(changes, dict):
        raise UserError("a row has a name and the settings it changes", place, "name: ..., set: {a.b: c}")
    _mapping(published, _PUBLISHED_KEYS, f"{place}, published")
    for kind, value in published.items():
        if not isinstance(value, int | float) or not 0 <= value <= 100:
            raise UserError(f"published.{kind} is {value!r}, must be an AUROC in %", place, "for example 98.3")
    overrides = tuple(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changes.items()
    )
    return AblationRow(name, overrides, {kind: float(value) for kind, value in published.items()})


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the table cannot be read: {reason}", str(path), "mend the YAML") from error


def _mapping(content: Any, known: set[str], place: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"expected {', '.join(sorted(known))}", place, "see recipes/ablations")
    strangers = sorted(str(key) for key in content.keys() - known)
    if strangers:
        raise UserError(f"unknown key {strangers[0]}", place, f"known are {', '.join(sorted(known))}")
    return content


def _is_table(path: Path) -> bool:
    """Whether a file beside the tables is one: the folder also holds the common base recipe."""
    return "rows" in (_load(path) or {})
