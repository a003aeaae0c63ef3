"""data.pretrain_on from the command line to the run's list of images."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

from assertions import assert_explained
from flawmap.recipe.files import to_yaml
from flawmap.reproducibility import file_sha256
from images import NUM_TRAIN, write_category, write_good
from tiny_detector import tiny_recipe


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories; cable holds five images of its own and copies of all training images of tile."""
    root = tmp_path / "here" / "parts"
    write_category(root / "tile")
    write_good(root / "cable" / "train" / "good", 5, first_seed=5000)
    for image in (root / "tile" / "train" / "good").iterdir():
        shutil.copy(image, root / "cable" / "train" / "good" / f"copy-{image.name}")
    (root.parent / "tiny.yaml").write_text(to_yaml(tiny_recipe()), encoding="utf-8")
    return root


@pytest.mark.slow
def test_a_pooled_run_lists_its_images_and_trains_and_refuses_on_them(cli, root: Path):
    words = ("--recipe", "tiny.yaml", "--set", "data.pretrain_on=parts", "--device", "cpu")
    result = cli("train", "parts/tile", *words, "--run", "runs/pooled")
    assert result.code == 0, result.err
    assert (
        f"pool       5 further good images for stage 1, from 2 locations; {2 * NUM_TRAIN} left out as duplicates\n"
        in result.err
    )
    run = root.parent / "runs" / "pooled"
    with (run / "data_manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["split"] for row in rows) == {"train": 22, "held_out": 2, "pretrain_only": 5}
    pooled = {row["path"]: row["sha256"] for row in rows if row["split"] == "pretrain_only"}
    cable = root / "cable" / "train" / "good"
    assert pooled == {f"cable/train/good/{n:03d}.png": file_sha256(cable / f"{n:03d}.png") for n in range(5)}
    assert not set(pooled.values()) & {row["sha256"] for row in rows if row["split"] == "held_out"}

    write_good(root.parent / "camera", 5, first_seed=5000)  # what stage 1 has seen sets no threshold
    refused = cli("calibrate", run, "camera")
    assert_explained(refused, ("5 of these images were trained on",), "data_manifest.csv", ("has not seen",))
    shutil.copy(cable / "000.png", root / "tile" / "test" / "good" / "late.png")  # nor is it a test image
    assert_explained(cli("evaluate", run, "parts/tile"), ("late.png is also in training",), "", ("remove one copy",))
    again = cli("train", "parts/tile", *words)
    assert_explained(again, ("late.png is also in training as cable/train/good/000.png",), "", ("remove one copy",))


def test_check_says_what_the_pool_brings(cli, root: Path):
    words = ("check", "parts/tile", "--set", "data.pretrain_on=parts/cable", "--set", "pretrain.enabled=true")
    result = cli(*words, "--json")
    assert result.json["pool_images"] == 5
    assert result.json["pool"].startswith("5 ") and f"{NUM_TRAIN} left out" in result.json["pool"]
    assert f"\npool       {result.json['pool']}\n" in cli(*words).out
    assert cli("check", "parts/tile", "--json").json["pool"] is None


def test_a_wrong_pool_is_explained(cli, root: Path):
    words = ("--set", "data.pretrain_on=parts/cabel", "--recipe", "tiny.yaml")
    for verb in ("check", "train"):
        result = cli(verb, "parts/tile", *words)
        assert_explained(
            result, ("data.pretrain_on: no such folder", "parts/cable exists"), "", ("--set data.pretrain_on=LOCATION",)
        )
    assert not (root.parent / "runs").exists()
    (root.parent / "blank.yaml").write_text('base: tiny.yaml\ndata:\n  pretrain_on: " "\n', encoding="utf-8")
    blank = cli("check", "parts/tile", "--recipe", "blank.yaml")
    assert_explained(blank, ("data.pretrain_on is empty",), "data.pretrain_on", ("null",))


def test_pooling_without_a_pool_is_no_comparison(cli, root: Path):
    result = cli("benchmark", "ablations", "parts/tile", "--base", "tiny.yaml", "--table", "pooling")
    assert_explained(result, ("pooling", "without data.pretrain_on"), "--table", ("--set data.pretrain_on=",))
