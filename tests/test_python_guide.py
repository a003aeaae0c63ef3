"""The guide for Python, run as it stands on made-up images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from images import striped, write_good, write_image
from test_readme import blocks
from tiny_detector import tiny_recipe

GUIDE = Path(__file__).parents[1] / "docs" / "python.md"


@pytest.mark.slow
def test_the_block_of_the_guide_works(tmp_path, monkeypatch):
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    write_good(Path("parts"), 8)
    write_image(Path("new/000.png"), striped(2))
    write_image(Path("new/001.png"), np.zeros((48, 48, 3), np.uint8))
    (block,) = blocks(GUIDE.read_text(encoding="utf-8"), "python")
    names = {"tiny": tiny_recipe()}
    exec(block.replace("AnomalyDetector()", "AnomalyDetector(tiny)"), names)
    assert [one.name for one in names["results"]] == ["new/000.png", "new/001.png"]
    assert names["results"][0].score == names["result"].score
    with Image.open("pictures/000.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(names["result"].overlay()))
    with Image.open("pictures/plot.png") as plot:
        assert plot.size[0] > 100
    pyplot.close("all")
