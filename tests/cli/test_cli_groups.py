"""Groups from the command line: no patient, part, board or lot is on two sides, and the numbers go by group."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assertions import assert_explained
from flawmap.data.sample import TrainingData
from flawmap.deploy.good_scores import GoodImages, good_scores
from flawmap.detect.calibration import calibrate
from flawmap.errors import UserError
from flawmap.runs.calibration import Calibration
from flawmap.runs.manifest import ManifestRow, read_manifest, write_manifest
from images import striped, write_good, write_image

QUICKEST = ("--set", "pretrain.enabled=false", "--set", "finetune.steps=1")  # nothing here looks at the weights


def write_manifest_of(folder: Path, rows: list[str]) -> Path:
    (folder / "manifest.csv").write_text("\n".join(["image,split,label,Board", *rows]), encoding="utf-8")
    return folder


@pytest.fixture
def grouped_run(run_copy: Path) -> Path:
    """A run whose manifest says that its first training image is of board B1 and its held-out ones are of B2."""
    rows = list(read_manifest(run_copy / "data_manifest.csv"))
    with (run_copy / "data_manifest.csv").open(encoding="utf-8", newline="") as file:
        assert [row["group"] for row in csv.DictReader(file)] == [""] * len(rows)
    first = next(row for row in rows if row.split == "train")
    groups = {first.key: "B1"} | {row.key: "B2" for row in rows if row.split == "held_out"}
    write_manifest(run_copy / "data_manifest.csv", (replace(row, group=groups.get(row.key, "")) for row in rows))
    return run_copy


def test_training_holds_whole_groups_out_and_says_so(cli, trained, tmp_path):
    """24 images of 12 boards, written on Windows: a tenth of them are the images of one board."""
    rows = []
    for number in range(24):
        write_image(tmp_path / "parts" / f"{number}.png", striped(number))
        rows.append(f".\\{number}.png,train,0,Platine {number // 2}")
    said = cli(
        "train", write_manifest_of(tmp_path / "parts", rows), "--recipe", trained.recipe, "--run", "r", *QUICKEST
    )
    assert said.code == 0, said.err
    assert "12 groups (board), largest 2 images" in said.err
    assert "22 train, 2 held out for the threshold (seed 0)" in said.err
    assert "from 2 images of 1 group (cannot resolve below 50.0%)" in said.err
    manifest = read_manifest(Path("r/data_manifest.csv"))
    assert [row.group for row in manifest] == [f"Platine {number // 2}" for number in sorted(range(24), key=str)]
    sides = [{row.group for row in manifest if row.split == split} for split in ("train", "held_out")]
    assert (len(sides[0]), len(sides[1])) == (11, 1) and not sides[0] & sides[1]
    assert json.loads(Path("r/model/calibration.json").read_text())["n_groups"] == 1
    assert cli("report", "r").code == 0
    report = Path("r/report.html").read_text(encoding="utf-8")
    assert "22 images of 11 groups" in report and "2 good images of 1 group" in report
    seen = cli("evaluate", "r", tmp_path / "parts")
    assert_explained(seen, ("no labelled test images",), "parts", ("manifest.csv",))


def test_intervals_are_over_groups(cli, run_copy, trained):
    said = cli("evaluate", run_copy, trained.data, "--set", "data.group_by={group}.png")
    assert said.code == 0 and "groups     6 groups ({group}.png): the intervals are over groups" in said.out
    metrics = json.loads((run_copy / "evaluation" / "metrics.json").read_text())
    assert (metrics["grouped_by"], metrics["n_groups"]) == ("{group}.png", 6)
    assert metrics["image"]["auroc"]["low"] is not None
    assert "bootstrap over the 6 groups ({group}.png)" in (run_copy / "report.html").read_text(encoding="utf-8")
    card = (run_copy / "model" / "README.md").read_text(encoding="utf-8")
    assert "95 % bootstrap intervals over groups of images." in card
    few = cli("evaluate", run_copy, trained.data, "--json", "--output", "few", "--set", "data.group_by=folder")
    assert few.json["n_groups"] == 3 and few.json["image"]["auroc"]["low"] is None  # test/good is one group


@pytest.mark.parametrize("board", ["B1", " B1 "])
def test_a_group_that_trained_sets_no_threshold(cli, grouped_run, tmp_path, board):
    write_good(tmp_path / "camera2", 9, first_seed=900)
    camera = write_manifest_of(tmp_path / "camera2", [f"00{i}.png,train,0,{'B2' if i else board}" for i in range(9)])
    said = cli("calibrate", grouped_run, camera)
    problem = "board 'B1' is in training and in the calibration: train/good/000.png and 000.png"
    assert_explained(said, (problem,), str(camera), ("take other groups than those of training",))
    apart = write_manifest_of(
        tmp_path / "camera2", [f"00{i}.png,train,0,{'B2' if i < 4 else f'B{i}'}" for i in range(9)]
    )
    said = cli("calibrate", grouped_run, apart)  # B2 was held out: it has set the threshold, as it does again
    assert said.code == 0 and "from 9 images of 6 groups (cannot resolve below 14.3%)" in said.out
    assert "1.00% needs 99 groups of good images" in said.out


def test_a_group_that_trained_is_found_by_the_names_of_the_training_and_of_the_list(tmp_path):
    """Training read patients from names of files; the list of fresh images has a column for them."""
    for number in range(6):
        write_image(tmp_path / "fresh" / f"P{number}_1.png", striped(900 + number))
    write_manifest(tmp_path / "rows.csv", [ManifestRow("P0_9.png", "1" * 64, "train", 8, 8, "2" * 64, "P0")])
    groups: list[str | None] = []

    def calibrated(data: TrainingData, rate: float) -> Calibration:
        groups.extend(image.group for image in data.images)
        scores = [0.1 * number for number, _ in enumerate(data.images)]
        return calibrate(scores, [0.5] * len(scores), rate)

    def groups_of(boards: str, group_by: str) -> list[str | None]:
        rows = [f"P{number}_1.png,train,0,{board}" for number, board in enumerate(boards)]
        fresh = write_manifest_of(tmp_path / "fresh", rows)
        groups.clear()
        good_scores(GoodImages([fresh], 0.2, group_by), "model", calibrated, tmp_path / "rows.csv")
        return groups

    assert groups_of("AABBCC", "{group}_9.png") == ["A", "A", "B", "B", "C", "C"]
    with pytest.raises(UserError, match=r"group 'P0' is in training and in the calibration: P0_9\.png and P0_1\.png"):
        groups_of("AABBCC", "{group}_*")
    (tmp_path / "fresh" / "manifest.csv").unlink()
    (tmp_path / "fresh" / "P0_1.png").unlink()
    good_scores(GoodImages([tmp_path / "fresh"], 0.2, "{group}_*"), "model", calibrated, tmp_path / "rows.csv")
    assert groups[-5:] == [f"P{number}" for number in range(1, 6)]


def test_a_group_that_trained_or_was_held_out_is_not_tested(cli, grouped_run, tmp_path):
    write_good(tmp_path / "test", 4, first_seed=900)
    for board, key in (("B1", "train/good/000.png"), ("B2", "train/good/")):
        data = write_manifest_of(tmp_path / "test", ["000.png,test,0,B7", f"001.png,test,1,{board}", "002.png,test,1,"])
        said = cli("evaluate", grouped_run, data)
        assert_explained(said, (f"board '{board}' is in training and in the test: {key}",), str(data), ("groups",))
    other = write_manifest_of(tmp_path / "test", ["000.png,test,0,B7", "001.png,test,1,B8", "002.png,test,1,"])
    assert "groups     3 groups (board)" in cli("evaluate", grouped_run, other, "--output", "mine").out


def test_a_pattern_that_matches_no_test_image_is_refused(cli, run_copy, trained):
    said = cli("evaluate", run_copy, trained.data, "--set", "data.group_by={group}_*")
    assert_explained(said, ("no image matches data.group_by={group}_*",), "tile", ("--set 'data.group_by=",))


def test_patients_in_dicom_files_are_named_by_number_only_if_they_are_split(cli, tmp_path):
    pytest.importorskip("pydicom")
    from dicom_files import RAMP, dicom

    for number in range(24):
        folder = tmp_path / "study" / f"P{number // 3}"
        dicom(folder / f"IM{number}", np.roll(RAMP, number, axis=1), PatientID=f"SECRET{number // 3}")
    said = cli("check", tmp_path / "study", "--json")
    text = "24 DICOM files are of 8 patients (PatientID), and are split image by image"
    assert said.json["ungrouped"].startswith(text) and "SECRET" not in said.out
    assert f"groups     {text}" in cli("check", tmp_path / "study").out
    grouped = cli("check", tmp_path / "study", "--set", "data.group_by=folder").out
    assert "PatientID" not in grouped and "groups     8 groups (folder), largest 3 images" in grouped
    assert "PatientID" not in cli("check", tmp_path / "study", "--set", "data.group_by=image").out
