"""flawmap evaluate, calibrate and report say what poor data leaves out of their numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from images import write_category, write_good, write_image


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return write_category(tmp_path / "parts")


def line(text: str, start: str) -> str:
    """The only line that begins with ``start``."""
    (only,) = [line for line in text.splitlines() if line.startswith(start)]
    return only


def test_images_without_a_mask_are_counted_and_the_first_is_named(cli, trained, parts: Path):
    (parts / "ground_truth" / "hole" / "001_mask.png").unlink()
    write_image(parts / "ground_truth" / "hole" / "002_mask.png", np.zeros((48, 48), np.uint8))
    result = cli("evaluate", trained.run / "model", parts)
    assert result.code == 0, result.err
    first = "test/hole/001.png"
    assert f"8 of 12 anomalous images have no mask, first: {first}; " in line(result.out, "no mask")
    shutil.rmtree(parts / "ground_truth")
    result = cli("evaluate", trained.run / "model", parts)
    assert "no mask" not in result.out  # nobody meant to give any
    assert line(result.out, "pixel") == "pixel      no AUROC: no image has ground truth for its pixels"


def test_remarks_on_masks_are_in_the_check_the_summary_the_metrics_and_the_report(cli, run_copy, parts: Path):
    for number in range(4):
        write_image(parts / "ground_truth" / "hole" / f"00{number}_mask.png", np.full((48, 48), 255, np.uint8))
    keys = [f"ground_truth/hole/00{number}_mask.png" for number in range(4)]
    text = "every pixel is anomalous; in a mask, black is background"
    wanted = f"remark     {keys[0]}: {text} (likewise 001_mask.png, 002_mask.png and 1 more)"
    assert line(cli("check", parts).out, "remark") == wanted
    in_full = [{"key": key, "text": text} for key in keys]
    assert cli("check", parts, "--json").json["file_remarks"] == in_full
    assert line(cli("evaluate", run_copy, parts).out, "remark") == wanted
    assert json.loads((run_copy / "evaluation" / "metrics.json").read_text())["remarks"] == in_full
    assert wanted.removeprefix("remark     ") in (run_copy / "report.html").read_text()


def test_good_images_alone_measure_false_alarms_and_say_what_is_missing(cli, trained, parts: Path):
    for name in ("test/hole", "test/stain", "ground_truth"):
        shutil.rmtree(parts / name)
    result = cli("evaluate", trained.run / "model", parts)
    wanted = "image      no AUROC: it needs good and anomalous images, and these are 6 good, 0 anomalous"
    assert line(result.out, "image") == wanted
    assert "% false alarms" in line(result.out, "threshold") and "pixel" not in result.out


def test_defects_alone_still_have_pixel_measures(cli, trained, parts: Path):
    shutil.rmtree(parts / "test" / "good")
    result = cli("evaluate", trained.run / "model", parts)
    assert "these are 0 good, 12 anomalous" in line(result.out, "image")
    assert "on 6 images" in line(result.out, "pixel") and "- false alarms" in line(result.out, "threshold")


def test_files_that_were_left_out_are_counted(cli, trained, parts: Path):
    (parts / "test" / "hole" / "003.png").write_text("not an image")
    result = cli("evaluate", trained.run / "model", parts, "--skip-unreadable")
    assert line(result.out, "left out").startswith("left out   1 unreadable, first: test/hole/003.png (not an image")


def test_an_empty_folder_is_called_empty(cli, trained, tmp_path: Path):
    (tmp_path / "nothing").mkdir()
    result = cli("evaluate", trained.run / "model", tmp_path / "nothing")
    assert result.code == 2 and "error: there are no labelled test images" in result.err


def test_calibrate_decodes_all_images_before_it_scores_one(cli, run_copy, tmp_path: Path):
    camera = write_good(tmp_path / "camera", 6, first_seed=900)
    for name in ("a.png", "z.png"):
        (camera / name).write_text("not an image")
    result = cli("calibrate", run_copy, camera)
    assert result.code == 2 and "error: 2 files cannot be decoded: a.png (not an image" in result.err
    assert "or --skip-unreadable" in result.err
    result = cli("calibrate", run_copy, camera, "--skip-unreadable", "--json")
    assert result.code == 0 and result.json["n_held_out"] == 6
    for path in camera.iterdir():
        path.write_text("not an image")
    result = cli("calibrate", run_copy, camera, "--skip-unreadable")
    assert result.code == 2 and "error: no image can be read" in result.err


def test_a_damaged_map_is_named_by_the_report(cli, run_copy, trained):
    assert cli("evaluate", run_copy, trained.data).code == 0
    for path in (run_copy / "evaluation" / "maps").iterdir():
        path.write_text("not an image")
    result = cli("report", run_copy)
    assert result.code == 2 and "cannot be read: 00" in result.err and "evaluation/maps/00" in result.err
    assert "remedy: run `flawmap evaluate` again" in result.err
