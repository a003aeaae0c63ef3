"""The documents: links lead somewhere, and the code that they name exists."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
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


# ---- CONTRIBUTING


CONTRIBUTING = REPO / "CONTRIBUTING.md"


def example(name: str) -> str:
    """The Python block of CONTRIBUTING.md that defines a class."""
    blocks = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if f"\nclass {name}" in block]
    return block


def test_the_example_of_a_simulator_changes_what_it_marks():
    names: dict[str, Any] = {}
    exec(example("DarkSquare"), names)
    good = np.full((64, 64, 3), 200, dtype=np.uint8)
    defect = names["DarkSquare"]()(good, np.random.default_rng(0))
    changed = (defect.image != good).any(axis=2)
    assert defect.label == 1
    assert changed.any()
    assert (changed == defect.footprint).all()


def test_the_example_of_an_objective_trains_the_student():
    import torch

    from flawmap.recipe.settings import ModelSettings, PretrainSettings
    from flawmap.vit.weights import load_encoder

    names: dict[str, Any] = {}
    exec(example("InstancesModule"), names)
    encoder, _ = load_encoder(ModelSettings("random", "test_vit"), seed=0)
    module = names["InstancesModule"](encoder, PretrainSettings(batch_size=4), 6, 2, 0)
    views = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = module.loss_of({"teacher": views, "student_global": views.flip(-1)})
    result.loss.backward()
    assert result.loss.item() > 0
    assert all(parameter.grad is not None for parameter in module.student_head.parameters())
    assert all(parameter.grad is None for parameter in module.teacher_head.parameters())


def test_the_files_that_contributing_names_exist():
    """In the table "To change X, touch Y", and as the new places of old modules."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    touch = text.split("## To change X, touch Y")[1].split("\n### ")[0]
    moved = text.split("## Where old modules went")[1]
    places = [cells.split(" | ")[-1] for cells in (touch + moved).splitlines() if cells.startswith("| ")]
    paths = re.findall(r"`([\w/]+(?:\.py|\.yaml|/))", " ".join(places))
    assert len(paths) > 50
    assert not [path for path in paths if not any((root / path).exists() for root in (REPO, REPO / "src/flawmap"))]
