"""docs/licences.md lists what flawmap asks for, and nothing that would bind those who use it."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flawmap_bench.licences import closure, licence_of

REPO = Path(__file__).parents[2]
NOT_FOR_USERS = ("dev", "docs")


def test_every_direct_dependency_is_listed():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in NOT_FOR_USERS}
    asked = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    names = {canonicalize_name(Requirement(line).name) for line in asked} - {"flawmap"}
    listed = set(re.findall(r"^\| \*\*(.+?)\*\* \|", (REPO / "docs" / "licences.md").read_text(), re.MULTILINE))
    assert listed == names


def test_no_listed_licence_is_copyleft_for_whole_programs():
    text = (REPO / "docs" / "licences.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 30
    assert [row for row in rows if re.search(r"(?<!L)GPL", row)] == []


def test_a_closure_follows_requirements_and_ends():
    found = closure([Requirement("jinja2")])
    assert found == {"jinja2", "markupsafe"}
    assert licence_of("pillow") == "MIT-CMU"
    assert licence_of("no-such-package-anywhere") == "not installed"
