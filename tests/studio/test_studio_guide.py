"""The studio's story with commands, run as it stands in the guide on made-up images."""

import json
import shlex
from pathlib import Path

import pytest

from flawmap.cli import main
from flawmap.deploy.reviews import ReviewFile, make_review
from flawmap.recipe.files import to_yaml
from flawmap.reproducibility import file_sha256
from flawmap.runs.model_config import read_config
from flawmap.runs.run_folder import MODEL_CONFIG, RunFolder
from images import striped, write_good, write_image
from test_readme import blocks
from test_roi_guide import SETTINGS
from tiny_detector import tiny_recipe

GUIDE = Path(__file__).parents[2] / "docs" / "studio.md"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_heads")]


def write_reviews(run: RunFolder, image: Path) -> None:
    model_id = f"{str(read_config(run.model / MODEL_CONFIG).weights_sha256)[:16]}-fp32"
    review = make_review(image.name, file_sha256(image), model_id, 2.0, 2.0, 1.0, "disagree", "")
    ReviewFile(Path("reviews.csv")).append(review)


def test_the_story_with_commands_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    write_good(Path("good"))
    write_good(Path("test"), 4, first_seed=300)
    hole = striped(400)
    hole[8:20, 10:24] = 0
    write_image(Path("test/hole.png"), hole)
    rows = [f"test/{number:03d}.png,test,good" for number in range(4)]
    Path("labelled.csv").write_text("image,split,label\n" + "\n".join([*rows, "test/hole.png,test,bad"]) + "\n")
    Path("region.json").write_text(json.dumps({"inside": [{"rectangle": [0.1, 0.1, 0.9, 0.9]}]}))
    Path("tiny.yaml").write_text(to_yaml(tiny_recipe(*SETTINGS, "memory.blocks=[1, 2]", "memory.tokens=40")))
    run = RunFolder(Path("runs/line3"))
    (commands,) = blocks(GUIDE.read_text(encoding="utf-8"), "sh")
    for line in commands.splitlines():
        words = shlex.split(line.replace("--recipe quick", "--recipe tiny.yaml"))[1:]
        assert main(words) == 0, (line, capsys.readouterr().err)
        if words[0] == "train":
            write_reviews(run, Path("test/000.png"))
    assert run.version == "update-0001"
    assert list(run.path.glob("*.onnx"))
