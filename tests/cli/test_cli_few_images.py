"""``flawmap check`` and ``train`` with fewer than twenty good images: what they say, and what becomes of odd input."""

import json
import shutil
from pathlib import Path

import pytest

from images import write_good
from tiny_detector import write_tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

ON_TOKENS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=memory"),
    *("memory.blocks=[1, 2]", "memory.tokens=60", "memory.image_share=0.1", "data.tiles=none"),
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_tiny_recipe(tmp_path / "tokens.yaml", *ON_TOKENS)


def test_an_image_given_twice_is_one_and_what_cannot_be_read_is_none(cli, recipe):
    write_good(Path("parts"), 1)
    shutil.copy("parts/000.png", "parts/again.png")
    Path("parts/torn.png").write_bytes(Path("parts/000.png").read_bytes()[:300])
    result = cli("train", "parts", "--recipe", recipe, "--run", "run", "--skip-unreadable")
    assert result.code == 0
    assert "1 good image sets no threshold, so nothing is called anomalous; 20 or more are better" in result.err
    assert "of the only image: 4 tilted, 2 zoomed, 4 lit otherwise" in result.err
    assert "none, from 1 image nothing can be promised; next: flawmap calibrate run GOOD_IMAGES" in result.err
    assert "threshold: none yet" in Path("run/model/README.md").read_text()
    found = cli("detect", "parts/000.png", "--model", "run", "--output", "found")
    assert found.code == 0 and "nothing is called anomalous" in found.err
    write_good(Path("more"), 5, first_seed=100)
    assert cli("calibrate", "run", "more", "--false-alarm-rate", "0.2").code == 0


def test_few_images_say_what_they_can_promise_and_what_is_missed(cli, recipe):
    write_good(Path("parts"), 4)
    result = cli("train", "parts", "--recipe", recipe, "--run", "run")
    assert result.code == 0
    assert "4 good images: no false-alarm rate below 20% can be promised; 20 or more are better" in result.err
    assert "contrast of simulated defects on good images with each kind: tilted " in result.err
    assert "only 20.0% can be expected; 1.00% needs 99 good images" in result.err
    assert "it misses " in result.err and " simulated defects (" in result.err
    scores = json.loads(Path("run/model/config.json").read_text())["held_out_simulated_defects"]["defect_scores"]
    threshold = json.loads(Path("run/model/calibration.json").read_text())["threshold"]
    missed = f"it misses {sum(score <= threshold for score in scores)} of {len(scores)} simulated defects"
    assert missed in result.err and missed in Path("run/model/README.md").read_text()


def test_few_groups_are_split_by_image(cli, recipe):
    for group in ("A", "B"):
        write_good(Path("parts") / group, 3, first_seed=3 * ord(group))
    changes = ("--set", "data.group_by=folder", "--set", "data.normal=.")
    result = cli("train", "parts", "--recipe", recipe, "--run", "run", *changes)
    assert result.code == 0
    assert "too few to split by (at least 5 are needed): split by image" in result.err
    assert "estimated from 6 images (cannot resolve below 14.3%)" in result.err


def test_groups_count_once_where_there_are_five(cli, recipe):
    for number in range(5):
        write_good(Path("parts") / f"lot{number}", 2, first_seed=10 * number)
    changes = ("--set", "data.group_by=folder", "--set", "data.normal=.")
    result = cli("train", "parts", "--recipe", recipe, "--run", "run", *changes)
    assert result.code == 0
    assert "estimated from 10 images of 5 groups (cannot resolve below 16.7%)" in result.err


def test_no_image_at_all_is_refused(cli, recipe):
    write_good(Path("parts"), 1)
    Path("parts/000.png").write_bytes(Path("parts/000.png").read_bytes()[:300])
    result = cli("train", "parts", "--recipe", recipe, "--skip-unreadable")
    assert result.code == 2
    assert "0 good images; at least 1 is needed to train" in result.err
