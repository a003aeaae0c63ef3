"""flawmap as a package: what is built is complete, and the package index can show it."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import flawmap

REPO = Path(__file__).parents[1]
INSTALL = REPO / "docs" / "install.md"
WORKFLOW = REPO / ".github" / "workflows" / "ci.yml"
WITHOUT_SOURCES = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def project() -> dict:
    return tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*words: str | Path, path: Path | None = None) -> str:
    environment = WITHOUT_SOURCES | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run([str(word) for word in words], cwd=path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_extra_for_users_is_in_the_guide():
    """By the name that people install, with its size."""
    guide = INSTALL.read_text(encoding="utf-8")
    chosen, sizes = guide.split("## Extras and their size\n")[1].split("*Measured here*")
    for extra in set(project()["optional-dependencies"]) - {"dev", "docs"}:
        assert f"`{extra}`" in chosen, extra
        assert re.search(rf"flawmap\[(?:\w+,)*{extra}\]", sizes), extra


def test_the_guide_names_the_wheel_and_the_packages_of_serve():
    guide = INSTALL.read_text(encoding="utf-8")
    assert set(re.findall(r"flawmap-([\d.]+)-py3", guide)) == {flawmap.__version__}
    (injected,) = re.findall(r"pipx inject flawmap (.*?) +#", guide)
    assert injected.split() == [line.partition(">")[0] for line in project()["optional-dependencies"]["serve"]]


def test_the_workflow_runs_the_tests_on_three_systems_and_three_versions():
    """As YAML; GitHub has not run it. The first line below ``on`` is a word that YAML 1.1 reads as True."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert [name.partition("-")[0] for name in matrix["system"]] == ["ubuntu", "macos", "windows"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert workflow["permissions"] == {"contents": "read"}
    for job in jobs.values():
        assert job["timeout-minutes"] <= 60
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        pinned = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in pinned)
    (install,) = [step["run"] for step in jobs["test"]["steps"] if "-e bench" in step.get("run", "")]
    wanted = set(re.findall(r"\[([\w,]+)\]", install)[0].split(","))
    assert wanted <= set(project()["optional-dependencies"])


@pytest.mark.slow
def test_the_built_package_is_complete_alone(tmp_path):
    for package in ("build", "hatchling", "twine"):
        pytest.importorskip(package)
    dist, alone = tmp_path / "dist", tmp_path / "alone"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, REPO)
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    assert wheel.name in INSTALL.read_text(encoding="utf-8")
    said = run(sys.executable, "-m", "twine", "check", "--strict", wheel, source)
    assert said.count("PASSED") == 2

    inside = set(zipfile.ZipFile(wheel).namelist())
    presets = {path.name for path in (REPO / "recipes").glob("*.yaml")}
    assert {f"flawmap/recipes/{name}" for name in presets} <= inside
    sources = {path.relative_to(REPO / "src") for path in (REPO / "src").rglob("*.*") if path.is_file()}
    assert {path.as_posix() for path in sources if path.suffix != ".pyc" and ".egg" not in str(path)} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "bench/", "docs/"))]
    with tarfile.open(source) as archive:
        assert any(name.endswith("/CONTRIBUTING.md") for name in archive.getnames())

    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", alone, wheel)
    place = run(sys.executable, "-c", "import flawmap; print(flawmap.__file__)", path=alone)
    assert Path(place.strip()).is_relative_to(alone)
    assert run(sys.executable, "-m", "flawmap", "--version", path=alone).strip() == f"flawmap {flawmap.__version__}"
    listed = run(sys.executable, "-m", "flawmap", "recipe", path=alone)
    assert all(name.removesuffix(".yaml") in listed for name in presets)
    assert run(sys.executable, "-m", "flawmap", "recipe", "standard", path=alone).startswith("seed: ")
