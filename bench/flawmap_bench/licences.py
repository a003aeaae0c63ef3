"""The licences of all packages that flawmap installs, as their own metadata state them.

python -m flawmap_bench.licences > docs/licences.md
"""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = (  # of flawmap; dev is not for users
    *("", "train", "demo", "medical", "figures", "tables", "export", "serve", "watch"),
    *("tensorboard", "mlflow", "wandb", "storage", "cluster"),
)
HEAD = """# Licences of the dependencies

flawmap is under the [Apache License 2.0](../LICENSE). Weights and data sets have licences of their own, which the
report and the model card name.

The table lists every package that an extra adds to those above it, as it was installed on Linux with Python 3.11. Names
in bold are asked for by flawmap; the others are their dependencies. The licences are those that the packages state.
`python -m flawmap_bench.licences > docs/licences.md` writes this page from the installed packages.
"""
CLASSIFIER = "License :: OSI Approved :: "


def requirements(package: str, extra: str) -> list[Requirement]:
    """What a package asks for with an extra, or without one if it is empty; none where it is not installed."""
    try:
        lines = distribution(package).requires or []
    except PackageNotFoundError:
        return []
    asked = [Requirement(line) for line in lines]
    return [one for one in asked if one.marker is None or one.marker.evaluate({"extra": extra})]


def closure(asked: Iterable[Requirement]) -> set[str]:
    """The names of all packages that these requirements bring, their own names included."""
    found: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(one.name), extra) for one in asked for extra in ("", *one.extras)]
    while waiting:
        package, extra = waiting.pop()
        if (package, extra) not in found:
            found.add((package, extra))
            more = requirements(package, extra)
            waiting += [(canonicalize_name(one.name), name) for one in more for name in ("", *one.extras)]
    return {package for package, _ in found}


def licence_of(package: str) -> str:
    """The licence that an installed package states, in a few words."""
    try:
        facts = distribution(package).metadata
    except PackageNotFoundError:
        return "not installed"
    stated = _field(facts, "License-Expression")
    classifiers = [line.removeprefix(CLASSIFIER) for line in facts.get_all("Classifier") or [] if CLASSIFIER in line]
    first_line = _field(facts, "License").strip().partition("\n")[0]
    text = stated or ", ".join(classifiers) or first_line or "not stated"
    return re.sub(r"\s+", " ", text).replace("|", "/")[:80]


def _field(facts: Any, name: str) -> str:
    return "".join((facts.get_all(name) or [])[:1])


def table() -> str:
    """The page, in Markdown."""
    lines, known = [HEAD], set()
    for extra in EXTRAS:
        direct = [one for one in requirements("flawmap", extra) if extra or "extra" not in str(one.marker)]
        if extra:
            base = {str(one) for one in requirements("flawmap", "")}
            direct = [one for one in direct if str(one) not in base]
        new = sorted(closure(direct) - known - {"flawmap"})
        known |= set(new)
        names = {canonicalize_name(one.name) for one in direct}
        lines += [f"## {f'`flawmap[{extra}]`' if extra else 'Base'}", "", "| package | licence |", "|---|---|"]
        lines += [f"| {f'**{name}**' if name in names else name} | {licence_of(name)} |" for name in new]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(table(), end="")
