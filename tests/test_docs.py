"""The documents: links lead somewhere, and the code that they name exists."""

import ast
import re
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
DOCUMENTS = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").rglob("*.md"))]
METHOD = REPO / "docs" / "method.md"
DECISIONS = REPO / "docs" / "decisions"


def name_of(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the document's headings."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(document):
    broken = []
    for link in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", document.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def code_references() -> list[tuple[str, str]]:
    """Each file that method.md names, with one of the names that it gives in it ("" for the file alone)."""
    found = []
    for path, names in re.findall(r"`([\w/]+\.py)(?:: ([\w., ]+))?`", METHOD.read_text(encoding="utf-8")):
        found += [(path, name) for name in names.split(", ")]
    return found


def defined_in(file: Path) -> set[str]:
    """Functions and classes of a file, methods both as ``method`` and as ``Class.method``."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return names


def test_method_names_many_places():
    assert len(code_references()) > 50


@pytest.mark.parametrize(("path", "name"), sorted(set(code_references())))
def test_the_code_that_method_names_exists(path, name):
    file = REPO / path if path.startswith(("bench/", "tests/")) else REPO / "src" / "flawmap" / path
    assert file.is_file()
    assert not name or name in defined_in(file)


def test_settings_that_method_names_exist():
    from flawmap.recipe.settings import Recipe

    for setting in re.findall(
        r"`((?:memory|residual|fusion|expectation|calibration)\.\w+)`", METHOD.read_text("utf-8")
    ):
        group, field = setting.split(".")
        assert hasattr(getattr(Recipe(), group), field), setting


def test_each_decision_is_in_the_index_and_says_why():
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    records = sorted(DECISIONS.glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert record.name in index
        assert text.startswith(f"# {int(record.name[:4])}. ")
        assert "\nStatus: " in text
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_readme_is_short():
    assert len((REPO / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
