"""flawmap manifest: what it prints, and that check, train and evaluate read what it writes."""

import shlex

import pytest

from annotation_files import coco, labelme, rectangle, voc, write_text
from assertions import assert_explained
from flawmap.recipe.files import to_yaml
from images import SIDE_PX, striped, write_good, write_image
from tiny_detector import tiny_recipe

SIZE = {"width": SIDE_PX, "height": SIDE_PX}
DEFECTS = ("000.png", "001.png", "002.png")


@pytest.fixture
def parts(tmp_path):
    """36 images in a folder whose name has a space; three of them with a black block."""
    folder = write_good(tmp_path / "my parts" / "images", 36)
    for seed, name in enumerate(DEFECTS):
        pixels = striped(500 + seed)
        pixels[8:20, 10:24] = 0
        write_image(folder / name, pixels)
    return folder.parent


def write_coco(parts):
    annotations = [{"bbox": [10, 8, 14, 12], "image_id": number} for number in (1, 2, 3)]
    images = [{"id": number, "file_name": name, **SIZE} for number, name in enumerate(DEFECTS, start=1)]
    write_text(parts / "annotations.json", coco([], *annotations, images=images))


def write_yolo(parts):
    x, y, width, height = 17 / SIDE_PX, 14 / SIDE_PX, 14 / SIDE_PX, 12 / SIDE_PX
    for name in DEFECTS:
        write_text((parts / "labels" / name).with_suffix(".txt"), f"0 {x} {y} {width} {height}\n")
    write_text(parts / "data.yaml", "train: images\nnames: [scratch]\n")


def write_voc(parts):
    size = f"<width>{SIDE_PX}</width><height>{SIDE_PX}</height>"
    for name in DEFECTS:
        path = (parts / "Annotations" / name).with_suffix(".xml")
        write_text(path, voc(name, ("scratch", (11, 9, 24, 20)), size=size))


def write_labelme(parts):
    side = {"imageWidth": SIDE_PX, "imageHeight": SIDE_PX}
    for name in DEFECTS:
        path = (parts / "images" / name).with_suffix(".json")
        write_text(path, labelme(name, rectangle((10, 8), (24, 20)), **side))


@pytest.mark.parametrize("masks", [(), ("--masks", "masks")])
@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc, write_labelme])
def test_each_format_becomes_a_manifest_that_the_check_reads(write, masks, parts, cli):
    write(parts)
    result = cli("manifest", parts, "--output", "manifest.csv", "--unannotated", "good", *masks)
    assert (result.code, result.err) == (0, "")
    labels = [line.split()[0] for line in result.out.splitlines()]
    assert labels == ["found", "defects", "manifest", "next"]
    assert "manifest.csv  26 good to train; 7 good and 3 anomalous to test" in result.out
    flawmap, *words = shlex.split(result.out.splitlines()[-1].partition(" ")[2])
    checked = cli(*words, "--json")
    assert flawmap == "flawmap" and checked.code == 0, checked.err
    assert checked.json["good_images"] == 26
    assert checked.json["test"] == {"good": 7, "anomalous": 3, "with_truth": 3, "kinds": {"scratch": 3}}
    assert checked.json["file_remarks"] == []


@pytest.mark.slow
def test_the_manifest_is_trained_on_and_evaluated(parts, cli, tmp_path):
    write_yolo(parts)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(to_yaml(tiny_recipe()), encoding="utf-8")
    assert cli("manifest", parts, "--output", "a.csv", "--unannotated", "good", "--masks", "masks").code == 0
    assert cli("train", "a.csv", "--recipe", recipe, "--run", "run", "--device", "cpu").code == 0
    result = cli("evaluate", "run", "a.csv", "--device", "cpu")
    assert result.code == 0, result.err
    assert len((tmp_path / "here" / "run" / "evaluation" / "per_image.csv").read_text().splitlines()) == 1 + 7 + 3


def test_images_that_nobody_has_annotated_are_left_out_and_said(parts, cli):
    write_coco(parts)
    result = cli("manifest", parts, "--output", "my list.csv")
    assert result.out.splitlines() == [
        "found      COCO annotations in 1 file",
        "defects    scratch 3",
        "left out   33 images without annotations; if they are good: --unannotated good",
        "manifest   my list.csv  0 good to train; 0 good and 3 anomalous to test",
        "remark     training needs at least 1 good image",
    ]


def test_json(parts, cli):
    write_labelme(parts)
    result = cli("manifest", parts, "--output", "a.csv", "--unannotated", "good", "--json")
    assert result.json == {
        "manifest": "a.csv",
        "format": "labelme annotations",
        "num_files": 3,
        "anomalous": 3,
        "kinds": {"scratch": 3},
        "good_train": 26,
        "good_test": 7,
        "left_out": 0,
        "remarks": [],
        "groups": None,
    }


def test_mistakes(parts, cli):
    write_coco(parts)
    assert_explained(cli("manifest", parts), ("--output",), "", ("flawmap manifest --help",))
    assert_explained(cli("manifest", parts, "--output", "a.csv", "--unannotated", "bad"), ("bad",), "", ("--help",))
    assert cli("manifest", parts, "--output", "a.csv").code == 0
    again = cli("manifest", parts, "--output", "a.csv")
    assert_explained(again, ("nothing is overwritten",), "a.csv", ("--output with another name",))
    assert_explained(
        cli("manifest", "nowhere", "--output", "b.csv"), ("no such file or folder",), "", ("give a folder",)
    )
    damaged = parts / "annotations.json"
    damaged.write_text(damaged.read_text()[:-20])
    said = cli("manifest", parts, "--output", "b.csv")
    assert_explained(said, ("COCO annotations cannot be read",), "annotations.json", ("export it again",))


def test_patients_are_split_whole_and_the_check_finds_no_leak(parts, cli):
    for path in sorted((parts / "images").iterdir()):
        path.rename(path.with_name(f"P{int(path.stem) // 3:02d}_{path.name}"))
    images = [{"id": 1, "file_name": "P00_000.png", **SIZE}]
    write_text(parts / "annotations.json", coco([], {"bbox": [10, 8, 14, 12]}, images=images))
    command = ("manifest", parts, "--output", "manifest.csv", "--unannotated", "good", "--set")
    result = cli(*command, "data.group_by={group}_*")
    assert (result.code, result.err) == (0, "")
    assert "groups     12 groups ({group}_*), largest 3 images" in result.out
    assert "27 good to train; 8 good and 1 anomalous to test" in result.out
    checked = cli("check", "manifest.csv")
    assert "groups     9 groups (group), largest 3 images" in checked.out
    assert "leak       none: 9 test files share no content and no group with training" in checked.out


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("data.image_size_px=448", "data.image_size_px has no effect on a manifest"),
        ("group_by=folder", "group_by has no effect on a manifest"),
        ("data.group_by=patient", "data.group_by is 'patient'"),
    ],
)
def test_settings_that_a_manifest_does_not_take(override, problem, parts, cli):
    write_coco(parts)
    result = cli("manifest", parts, "--output", "manifest.csv", "--set", override)
    assert_explained(result, (problem,), "", ("only data.group_by has" if "no effect" in problem else "{group}_*",))
