"""The guide's section on known defects, run as it stands on made-up images."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from flawmap.cli import main
from flawmap.recipe.files import to_yaml
from flawmap.runs.known_defects import read_known_defects
from flawmap.runs.run_folder import RunFolder
from images import scratched, write_good, write_image
from test_readme import GUIDE, blocks
from test_roi_guide import SETTINGS
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.slow


def section() -> str:
    return GUIDE.read_text(encoding="utf-8").split("## Known defects\n")[1].split("\n## ")[0]


def test_the_commands_of_the_guide_learn_from_known_defects(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_good(Path("parts"))
    write_good(Path("new"), 3, first_seed=650)
    image, mask = scratched(500)
    write_image(Path("known/scratch/007.png"), image)
    write_image(Path("known/scratch/007_mask.png"), mask.astype(np.uint8) * 255)
    small = "memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=3", "residual.simulated_images=10"
    recipe = tiny_recipe(*SETTINGS, "method=fused", *small)
    Path("tiny.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    (commands,) = blocks(section(), "sh")
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)[1:]
        words += ["--recipe", "tiny.yaml"] if words[0] == "train" else []
        assert main(words) == 0, capsys.readouterr().err
    scores = read_known_defects(RunFolder(Path("runs/line5")).known_defects)
    assert scores is not None and [(one.image, one.is_marked) for one in scores.images] == [
        ("known/scratch/007.png", True)
    ]


def test_the_folder_is_given_in_python_as_in_the_guide():
    assert 'AnomalyDetector().fit(load_images("parts"), defects="known")' in section()
