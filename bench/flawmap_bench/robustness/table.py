"""The outcomes of two versions side by side, as Markdown.

python -m flawmap_bench.robustness.table before.json after.json > table.md
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

MAX_WORDS = 240  # characters of a cell
Outcomes = Mapping[str, Mapping[str, str]]


def table_of(before: Outcomes, after: Outcomes) -> str:
    """One section for each generator, one row for each input."""
    return "\n".join(line for name in after for line in _section(name, before.get(name, {}), after[name])) + "\n"


def _section(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    changed = sum(before.get(key) != outcome for key, outcome in after.items())
    yield f"\n### {name.replace('_', ' ')}\n"
    yield f"{len(after)} inputs, {changed} with another outcome.\n"
    yield "| input | before | after |"
    yield "|---|---|---|"
    for key, outcome in after.items():
        earlier = before.get(key, "not tried")
        yield f"| {_cell(key)} | {_cell(earlier)} | {'the same' if outcome == earlier else _cell(outcome)} |"


def _cell(text: str) -> str:
    text = re.sub(r"\s+", " ", text).replace("|", "·").replace("<", "&lt;")
    return text if len(text) <= MAX_WORDS else text[:MAX_WORDS] + " …"


if __name__ == "__main__":
    first, second = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3])
    sys.stdout.write(table_of(first, second))
