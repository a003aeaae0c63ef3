"""The guide's section on regions of interest, run as it stands on made-up images."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from flawmap.cli import main
from flawmap.data.rois import rois_of_text
from flawmap.recipe.files import load_recipe, to_yaml
from images import striped, write_good
from test_readme import GUIDE, blocks
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")
SETTINGS = ("data.image_size_px=64", "pretrain.enabled=false", "method=memory", "detect.image_score=mean_logit")


def section() -> str:
    return GUIDE.read_text(encoding="utf-8").split("## Region of interest\n")[1].split("\n## ")[0]


def follow(part: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Write the file of a part of the section, run its commands, and remove the file; returns its content."""
    write_good(Path("parts"))
    write_good(Path("new"), 3, first_seed=650)
    Path("tiny.yaml").write_text(
        to_yaml(tiny_recipe(*SETTINGS, "memory.blocks=[1, 2]", "memory.tokens=40")), encoding="utf-8"
    )
    (content,) = blocks(part, "json")
    (name,) = re.findall(r"(?:such as|in) `(\S+\.json)`", part)
    Path(name).write_text(content, encoding="utf-8")
    (commands,) = blocks(part, "sh")
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)[1:]
        recipe = ["--recipe", "tiny.yaml"] if words[0] in ("check", "train") else []
        assert main([*words, *recipe]) == 0, capsys.readouterr().err
    Path(name).unlink()
    return content


def test_the_region_of_the_guide_is_checked_trained_and_detected_with(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = follow(section().split("\n### ")[0], capsys)
    recipe = load_recipe("runs/line3/model/recipe.yaml", is_of_model=True)
    roi = rois_of_text(recipe.data.roi).of(None)
    assert json.loads(recipe.data.roi) == json.loads(content)
    inside = roi.at(*striped(0).shape[:2])
    images = json.loads(Path("found/result.json").read_text(encoding="utf-8"))["images"]
    assert [image["inside_share"] for image in images] == [pytest.approx(inside.mean())] * 3
    assert inside.sum() == 44 * 40 - 8 * 6 and np.argwhere(inside).min(axis=0).tolist() == [4, 2]
    assert Path("runs/check/parts/gallery.html").is_file()


def test_the_regions_of_the_guides_cameras_are_checked_trained_and_detected_with(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    good = write_good(Path("parts"))
    names = sorted(path.name for path in good.iterdir())
    rows = [f"{name},train,0,{('left', 'right')[number % 2]}" for number, name in enumerate(names)]
    (good / "manifest.csv").write_text("\n".join(["image,split,label,camera", *rows]), encoding="utf-8")
    content = follow(section().split("\n### ")[1], capsys)
    recipe = load_recipe("runs/line4/model/recipe.yaml", is_of_model=True)
    assert json.loads(recipe.data.roi) == json.loads(content)
    images = json.loads(Path("found-left/result.json").read_text(encoding="utf-8"))["images"]
    inside = rois_of_text(content).of("left").at(*striped(0).shape[:2])
    assert [image["inside_share"] for image in images] == [pytest.approx(inside.mean())] * 3
    assert Path("runs/check/parts/gallery.html").is_file()
