"""The board of methods as one page that needs nothing else: tables, chart, notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment

PUBLISHED_MARK = "*published*"  # in the names of columns that hold numbers of others

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Scoreboard: {{ name }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c1c1c;
  background: #fff }
h1 { margin-bottom: .3rem } h2 { margin-top: 2.2rem; font-size: 1.15rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; color: #444; font-size: .9rem }
dt { font-weight: 600 } dd { margin: 0; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap }
th { border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; font-size: .85rem; max-width: 9rem }
td { border-bottom: 1px solid #e2e2e2 }
th:first-child, td:first-child { text-align: left }
td small { color: #666 } tr.ours td:first-child { border-left: 4px solid #c4442b; font-weight: 600 }
tr.ours { background: #fdf3f0 } .best { font-weight: 700 }
th.published, td.published { background: #f3f1ea; font-style: italic; color: #555 }
td.failed { text-align: left; color: #8a2b18; white-space: normal }
svg { max-width: 100%; height: auto; border: 1px solid #e2e2e2 } li { margin: .25rem 0; font-size: .9rem }
</style></head><body><h1>Scoreboard: {{ name }}</h1>
<dl>{% for key, value in about.items() %}<dt>{{ key }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
{% for table in tables %}<h2>{{ table.title }}</h2><div class="wide"><table><thead><tr>
{% for column in table.columns %}<th{% if mark in column %} class="published"{% endif %}>
{{ column.replace("*", "") }}</th>{% endfor %}</tr></thead><tbody>
{% for line in table.lines %}<tr{% if line.is_ours %} class="ours"{% endif %}>
{% if line.failure %}<td>{{ line.cells[0] }}</td><td class="failed" colspan="{{ line.cells|length - 1 }}">
{{ line.failure }}</td>{% else %}{% for cell in line.cells %}
<td class="{{ 'published' if mark in table.columns[loop.index0] }}{{ 'best' if loop.index0 in line.best }}">
{% set value, sign, interval = cell.partition(" [") %}{{ value }}{% if sign %} <small>[{{ interval }}</small>{% endif %}
</td>{% endfor %}{% endif %}</tr>{% endfor %}</tbody></table></div>{% endfor %}
<h2>Accuracy for time</h2>
{{ chart }}
<h2>Notes</h2><ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul></body></html>
"""


@dataclass(frozen=True)
class BoardLine:
    """One line of a table of the board.

    Attributes:
        cells: texts, the first is the method's title.
        is_ours: whether it is flawmap.
        best: numbers of the cells that hold the best measured value of their column.
        failure: why there is nothing to show; empty where there is.
    """

    cells: tuple[str, ...]
    is_ours: bool
    best: frozenset[int] = frozenset()
    failure: str = ""


@dataclass(frozen=True)
class BoardTable:
    """A table: its title, the names of its columns, its lines."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[BoardLine, ...]


class _Safe(str):
    """Our own SVG: its texts are escaped where it is made."""

    def __html__(self) -> str:
        return self


def board_page(
    name: str, tables: Sequence[BoardTable], about: Mapping[str, str], notes: Sequence[str], chart: str
) -> str:
    """The page as HTML.

    Args:
        name: of the data set.
        tables: in order.
        about: what a reader needs to repeat it.
        notes: of methods, and the sources of published numbers.
        chart: an SVG.
    """
    page = Environment(autoescape=True).from_string(_PAGE)
    return page.render(name=name, about=about, tables=tables, notes=notes, chart=_Safe(chart), mark=PUBLISHED_MARK)
