"""Guides and notebooks that tell one story each, run as they stand, on images that they or the test make."""

import re
import sys
from pathlib import Path

import pytest

from images import write_good
from test_readme import blocks, images_and_stand_in, run_block

REPO = Path(__file__).parents[1]
DOCS = REPO / "docs"
RUN_BY = {  # each document with blocks of code, and the test that runs them
    "deploy.md": "deploy/test_deploy_guide.py",
    "first-result.md": "test_guides.py",
    "install.md": "test_packaging.py",
    "line.md": "watch/test_line_guide.py",
    "own-images.md": "test_readme.py",
    "products.md": "test_products_guide.py",
    "python.md": "test_python_guide.py",
    "studio.md": "studio/test_studio_guide.py",
    "thresholds.md": "test_guides.py",
    "updates.md": "test_update_guide.py",
    "xrays.md": "test_guides.py",
}
OF_RESULTS = ("results", "decisions", "lab-notes.md", "licences.md")  # their commands need data and hours


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_each_guide_with_code_is_run_by_a_test():
    guides = [path.relative_to(DOCS) for path in DOCS.rglob("*.md")]
    guides = [path for path in guides if path.parts[0] not in OF_RESULTS]
    with_code = [
        path.as_posix() for path in guides if re.search(r"^ *```(?:bash|sh|python)$", text_of(path), re.MULTILINE)
    ]
    assert sorted(set(with_code) - set(RUN_BY)) == []
    for guide, test in RUN_BY.items():
        assert Path(guide).name in (REPO / "tests" / test).read_text(encoding="utf-8"), guide


def with_python(here: Path) -> Path:
    """The stand-in for flawmap, and this Python under its usual name."""
    images_and_stand_in(here)
    python = here / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return here


@pytest.mark.slow
def test_the_first_result_comes_as_it_is_told(tmp_path):
    here = with_python(tmp_path)
    guide = text_of("first-result.md")
    (program,) = blocks(guide, "python")
    (here / "make_parts.py").write_text(program, encoding="utf-8")
    for number in range(24):
        (here / "parts" / f"{number:03d}.png").unlink()
    for block in blocks(guide):
        done = run_block(block, here)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert len(list((here / "parts").iterdir())) == 60
    assert len(list((here / "detections").glob("*.png"))) == 16
    assert (here / "runs" / "first" / "report.html").is_file()


@pytest.mark.slow
def test_the_commands_about_thresholds_work(tmp_path):
    here = with_python(tmp_path)
    write_good(here / "good-of-today", 24, first_seed=900)
    said = ""
    for block in blocks(text_of("thresholds.md")):
        done = run_block(block, here)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    assert "camera2" in said


def test_the_block_about_dicom_writes_one_window_into_all_files(tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    from dicom_files import RAMP, dicom

    monkeypatch.chdir(tmp_path)
    for name in ("one.dcm", "two.dcm"):
        Path("scans/chest").mkdir(parents=True, exist_ok=True)
        dicom(Path("scans/chest", name), RAMP)
    (block,) = blocks(text_of("xrays.md"), "python")
    exec(block, {})
    windowed = [pydicom.dcmread(path) for path in sorted(Path("windowed/chest").iterdir())]
    assert [(one.WindowCenter, one.WindowWidth) for one in windowed] == [(40, 400)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first_result", "look_inside"])
def test_a_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch, name):
    """With a recipe that trains in seconds in the place of ``quick``."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    images_and_stand_in(tmp_path)
    notebook = nbformat.read(DOCS / "notebooks" / f"{name}.ipynb", as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")  # none in the repository
    for cell in notebook.cells:
        cell.source = cell.source.replace('load_recipe("quick")', 'load_recipe("tiny.yaml")')
    monkeypatch.setenv("PYTHONPATH", str(REPO / "src"))
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    told = [output["data"]["text/plain"] for output in shown if "text/plain" in output.get("data", {})]
    assert ("True" if name == "first_result" else "False") in told
