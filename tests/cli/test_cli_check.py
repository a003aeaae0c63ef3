"""flawmap check: what it finds in good data. (For bad data see test_cli_mistakes.py.)"""

import json

import numpy as np
import pytest

from assertions import assert_explained, files_and_bytes
from images import NUM_TEST, NUM_TRAIN, striped, write_good, write_image


def test_a_category_is_counted_with_its_kinds_and_masks(cli, trained):
    result = cli("check", trained.data, "--json")
    assert result.code == 0 and result.err == ""
    assert result.json == {
        "data": "tile",
        "root": str(trained.data),
        "layout": "MVTec AD (train/good, test/KIND)",
        "good_images": NUM_TRAIN,
        "identical_images": 0,
        "first_identical": None,
        "skipped": [],
        "file_remarks": [],
        "left_out": [],
        "sizes": {"48x48": NUM_TRAIN},
        "distinct_sizes": 1,
        "detail_lost": None,
        "nearly_black": None,
        "pool": None,
        "pool_images": 0,
        "groups": None,
        "ungrouped": None,
        "roi": None,
        "proposed_roi": None,
        "known_defects": None,
        "few": None,
        "test_files_compared": 3 * NUM_TEST,
        "test": {
            "good": NUM_TEST,
            "anomalous": 2 * NUM_TEST,
            "with_truth": NUM_TEST,
            "kinds": {"hole": NUM_TEST, "stain": NUM_TEST},
        },
    }


def test_large_images_are_said_to_lose_detail(cli, tmp_path):
    for seed in range(20):
        write_image(tmp_path / "good" / f"{seed}.png", striped(seed, 60, 160))
    recipe = ("--recipe", "paper", "--set")
    assert "detail" not in cli("check", tmp_path / "good", *recipe, "detect.sizes_px=[28, 64]").out
    lines = cli("check", tmp_path / "good", *recipe, "detect.sizes_px=[28, 32]").out.splitlines()
    seen = "an image side of 160 px is seen as 32 px, a defect of 10 px as 2.0 px"
    closer = ("--set", "data.image_size_px=64", "--set", "detect.sizes_px=64")
    remedy = f"for small defects cut images into parts, or {' '.join(closer)} (slower)"
    assert f"detail     {seen}: {remedy}" in lines
    assert "detail" not in cli("check", tmp_path / "good", "--recipe", "paper", *closer).out  # what it advises helps


def test_a_category_in_words(cli, trained):
    assert cli("check", trained.data).out.splitlines() == [
        'data       tile  24 good images, layout "MVTec AD (train/good, test/KIND)"',
        "sizes      48x48 (24)",
        "test       6 good, 12 anomalous, hole 6, stain 6; 6 have a mask or boxes",
        "leak       none: 18 test files share no content with training",
    ]


@pytest.fixture
def mixed(tmp_path):
    """22 good images of three sizes, two of them equal, and one that cannot be read."""
    parts = write_good(tmp_path / "parts", 20)
    write_image(parts / "wide.png", striped(1, 20, 60))
    write_image(parts / "wide-again.png", striped(1, 20, 60))
    (parts / "broken.png").write_bytes(b"\x89PNG nothing")
    return parts


def test_a_plain_folder_has_no_test_part(cli, mixed):
    before = files_and_bytes(mixed)
    result = cli("check", mixed, "--skip-unreadable", "--json")
    assert result.code == 0
    assert (result.json["good_images"], result.json["identical_images"], result.json["test"]) == (21, 1, None)
    assert result.json["sizes"] == {"48x48": 20, "60x20": 1}
    assert [file["key"] for file in result.json["skipped"]] == ["broken.png"]
    assert files_and_bytes(mixed) == before


def test_a_plain_folder_in_words(cli, mixed):
    lines = cli("check", mixed, "--skip-unreadable").out.splitlines()
    assert lines[1:3] == [
        "sizes      48x48 (20), 60x20 (1)",
        "identical  1 image repeats the content of another one and is left out: wide.png",
    ]
    assert lines[3].startswith("left out   broken.png: ")
    assert lines[4:] == ["total      21 good images, 1 left out (1 unreadable file)"]


def test_named_folders_count_only_what_training_does_not_use(cli, tmp_path):
    write_good(tmp_path / "OK", 20)
    write_good(tmp_path / "NG", 3, first_seed=90)
    result = cli("check", tmp_path, "--set", "data.normal=OK", "--set", "data.anomalous=NG", "--json")
    assert result.code == 0 and result.json["good_images"] == 20 and result.json["test_files_compared"] == 3
    assert result.json["test"] == {"good": 0, "anomalous": 3, "with_truth": 0, "kinds": {"NG": 3}}


def test_check_holds_the_data_to_the_recipe_that_will_train(cli, tmp_path):
    parts = write_good(tmp_path / "parts", 4)
    paper = ("--recipe", "paper_cpu")
    assert cli("check", parts, *paper).code == 2
    assert cli("check", parts, *paper, "--set", "calibration.held_out_fraction=0").code == 0
    assert cli("check", parts).code == 0


def test_groups_are_counted(cli, tmp_path):
    for number in range(24):
        write_image(tmp_path / "parts" / f"P{number // 3}_{number % 3}.png", striped(number))
    said = cli("check", tmp_path / "parts", "--set", "data.group_by={group}_*")
    assert said.code == 0 and "groups     8 groups ({group}_*), largest 3 images" in said.out.splitlines()
    said = cli("check", tmp_path / "parts", "--set", "data.group_by={group}-*")
    assert_explained(said, ("no image matches data.group_by={group}-*",), "parts", ("--set 'data.group_by={group}_*'",))
    rows = [f"P{number // 3}_{number % 3}.png,train,0,{number // 8}" for number in range(24)]
    (tmp_path / "parts" / "manifest.csv").write_text("\n".join(["image,split,label,lot", *rows]))
    said = cli("check", tmp_path / "parts", "--json")
    assert said.json["groups"].startswith("3 groups (lot), largest 8 images; too few to split by")


def test_a_region_without_a_constant_border_is_proposed_and_can_be_passed(cli, tmp_path, monkeypatch):
    """The proposal is a file, which nothing applies by itself, and which is kept once it has been changed."""
    monkeypatch.chdir(tmp_path)
    for seed in range(20):
        pixels = np.repeat(striped(seed, 60, 100)[..., :1] // 2 + 60, 3, axis=2)
        pixels[:, :10] = 0
        write_image(tmp_path / "scans" / f"{seed}.png", pixels)
    result = cli("check", "scans", "--json")
    path = tmp_path / result.json["proposed_roi"]
    assert path == tmp_path / "runs/check/scans/proposed-roi.json" and result.json["roi"] is None
    assert json.loads(path.read_text()) == {"inside": [{"rectangle": [0.1, 0, 1, 1]}]}
    lines = cli("check", "scans").out.splitlines()
    found = "a region of interest without a dark border in 80% of the images (left 10.0%)"
    assert f"proposal   {found}: {path.relative_to(tmp_path)}" in lines
    look = f"flawmap check scans --roi {path.relative_to(tmp_path)} --gallery"
    assert f"           nothing uses it unless you say so; to look at it: {look}" in lines
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # it is there already
    used = cli("check", "scans", "--roi", path)
    assert "region     90.0% of each image counts; nothing outside is learned or scored" in used.out.splitlines()
    assert "proposal" not in used.out
    path.write_text('{"inside": [{"rectangle": [0.2, 0, 1, 1]}]}')
    assert [cli("check", "scans", "--json").json["proposed_roi"] for _ in range(2)] == [
        "runs/check/scans/proposed-roi-2.json"
    ] * 2
