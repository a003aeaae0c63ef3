"""The guide's section on updates, run as it stands on made-up images."""

import shlex
from pathlib import Path

import pytest

from flawmap.cli import main
from flawmap.deploy.reviews import ReviewFile, make_review
from flawmap.recipe.files import to_yaml
from flawmap.reproducibility import file_sha256
from flawmap.runs.model_config import read_config
from flawmap.runs.run_folder import MODEL_CONFIG, RunFolder
from images import write_good
from test_readme import GUIDE, blocks
from test_roi_guide import SETTINGS
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")


def section() -> str:
    return GUIDE.with_name("updates.md").read_text(encoding="utf-8")


def test_the_run_of_the_guide_learns_and_returns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_good(Path("parts"))
    write_good(Path("new_good"), 4, first_seed=300)
    write_good(Path("uploads"), 3, first_seed=400)
    write_good(Path("new"), 3, first_seed=650)
    recipe = tiny_recipe(*SETTINGS, "memory.blocks=[1, 2]", "memory.tokens=40")
    Path("tiny.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert main(["train", "parts", "--run", "runs/line4", "--recipe", "tiny.yaml"]) == 0, capsys.readouterr().err
    run = RunFolder(Path("runs/line4"))
    model_id = f"{str(read_config(run.model / MODEL_CONFIG).weights_sha256)[:16]}-fp32"
    for file in sorted(Path("uploads").iterdir()):
        review = make_review(file.name, file_sha256(file), model_id, 2.0, 2.0, 1.0, "disagree", "")
        ReviewFile(Path("reviews.csv")).append(review)
    (commands,) = blocks(section(), "sh")
    versions = []
    for line in commands.splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, capsys.readouterr().err
        versions.append(run.version)
    assert versions == [None, "update-0001", "update-0002", "update-0002", "update-0001"]
