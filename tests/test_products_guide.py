"""The guide about several products, run as it stands on made-up images."""

import shlex
from pathlib import Path

import pytest

from flawmap.cli import main
from flawmap.recipe.files import to_yaml
from images import write_good
from test_readme import GUIDE, blocks
from test_roi_guide import SETTINGS
from tiny_detector import tiny_recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_heads")]


def test_the_commands_of_the_guide_judge_calibrate_and_update_by_product(tmp_path, monkeypatch, capsys):
    guide = GUIDE.with_name("products.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    manifest, new = blocks(guide, "text")
    header, screw, nut = manifest.split()
    Path("new.csv").write_text(new, encoding="utf-8")
    write_good(Path("a"), 24)
    write_good(Path("b"), 24, first_seed=100)
    rows = [screw.replace("0001", f"{number:03d}") for number in range(24)]
    rows += [nut.replace("0001", f"{number:03d}") for number in range(24)]
    Path("manifest.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    write_good(Path("new"), 3, first_seed=600)
    write_good(Path("nuts/good"), 24, first_seed=700)
    write_good(Path("nuts/new"), 3, first_seed=800)
    recipe = tiny_recipe(*SETTINGS, "memory.blocks=[1, 2]", "memory.tokens=40")
    Path("tiny.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert main(["train", "manifest.csv", "--run", "runs/parts", "--recipe", "tiny.yaml"]) == 0, capsys.readouterr().err
    (commands,) = blocks(guide, "sh")
    verbs = []
    for line in commands.splitlines():
        words = shlex.split(line)[1:]
        verbs.append(words[0])
        assert main(words) == 0, f"{line}\n{capsys.readouterr().err}"
    assert verbs == ["detect", "detect", "detect", "calibrate", "update"]
