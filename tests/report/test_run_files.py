"""Reading a run folder: what is there, what is missing, what is broken."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flawmap.errors import UserError
from flawmap.recipe.settings import Recipe
from flawmap.report.run_files import map_scale_of, read_run
from flawmap.runs.run_folder import create_run
from flawmap.runs.training_log import LogFile


def test_everything_is_read(made_up) -> None:
    files = read_run(made_up.run)
    assert files.is_evaluated
    assert files.threshold == 0.6
    assert len(files.images) == 100
    assert [image.score for image in files.images if image.is_anomalous] == made_up.anomalous.tolist()
    assert [image.score for image in files.images if not image.is_anomalous] == made_up.good.tolist()
    assert all(image.map_file is not None and image.map_file.is_file() for image in files.images)
    assert [image.truth_file is not None for image in files.images] == [False] * 60 + [True] * 40
    assert [row.split for row in files.manifest] == ["held_out"] * 40 + ["train"] * 360
    assert [row.number for row in files.samples] == ["00", "01", "02", "03"]
    assert set(files.samples[0].files) == {"input", "attention", "masked", "simulated", "footprint", "map"}
    assert len(files.log) == 460  # without the half line at the end, which an interruption left
    assert files.recipe is not None and files.recipe.method == "paper"
    scale = files.test_scale
    assert scale is not None
    assert (scale.low, scale.threshold, scale.high) == (-1.0, 0.5, 2.0)


def test_a_run_that_was_only_trained(trained_run: Path) -> None:
    files = read_run(trained_run)
    assert not files.is_evaluated
    assert files.threshold == 0.6
    assert files.images == ()
    assert files.evaluation is None and files.pixel_curves is None


def test_a_run_of_a_recipe_alone(tmp_path: Path) -> None:
    files = read_run(create_run(tmp_path / "run", "tiles", Recipe()).path)
    assert (files.recipe, files.threshold, files.log, files.samples) == (Recipe(), None, (), ())
    assert files.test_scale is None


def test_a_threshold_beyond_the_map_scale_widens_it(made_up) -> None:
    calibration = read_run(made_up.run).calibration
    scale = map_scale_of(replace(calibration, map_threshold=2.5))
    assert scale is not None
    assert (scale.low, scale.threshold, scale.high) == (-1.0, 2.5, 2.5)


def test_maps_outside_of_the_evaluation_are_not_read(made_up) -> None:
    table = made_up.run / "evaluation" / "per_image.csv"
    (made_up.run.parent / "secret.png").write_bytes(b"x")
    text = table.read_text().replace("maps/0000_000.png", "../../secret.png").replace("maps/0001_001.png", "")
    table.write_text(text)
    files = read_run(made_up.run)
    assert [image.map_file is None for image in files.images[:3]] == [True, True, False]


def test_an_evaluation_from_before_there_were_remarks_has_none(made_up) -> None:
    path = made_up.run / "evaluation" / "metrics.json"
    content = json.loads(path.read_text())
    assert content.pop("remarks") == []
    path.write_text(json.dumps(content))
    evaluation = read_run(made_up.run).evaluation
    assert evaluation is not None and evaluation.remarks == ()


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("evaluation/metrics.json", "{", "metrics.json"),
        ("evaluation/metrics.json", '{"data": 3}', "metrics.json"),
        ("model/calibration.json", "[1]", "calibration.json"),
        ("evaluation/per_image.csv", "key,path\na,b\n", "row 2"),
        (
            "evaluation/per_image.csv",
            "key,path,kind,is_anomalous,score,is_flagged,map,truth\na,b,c,0,nan,0,,\n",
            "the score is nan",
        ),
        ("evaluation/per_image.csv", "key\n\udcff", "per_image.csv"),
        ("log.jsonl", "{\n{}\n", "line 1"),
        ("evaluation/pixel_curves.json", "{", "pixel_curves.json"),
        ("evaluation/pixel_curves.json", '{"roc": [[0, "x"]], "precision_recall": [], "overlap": []}', "pixel_curves"),
        ("data_manifest.csv", "path,sha256\na,b\n", "data_manifest.csv"),
    ],
)
def test_broken_files_are_named(made_up, file: str, content: str, problem: str) -> None:
    (made_up.run / file).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError) as caught:
        read_run(made_up.run)
    assert problem in caught.value.problem
    assert caught.value.place == str(made_up.run / file)
    assert caught.value.remedy


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a run folder") as caught:
        read_run(tmp_path)
    assert "flawmap train" in caught.value.remedy


def test_numbers_that_json_cannot_hold_do_not_stop_the_log(tmp_path: Path) -> None:
    LogFile(tmp_path / "log.jsonl").write({"stage": "pretrain", "step": 0, "loss": float("nan")})
    assert np.isnan(read_run(tmp_path).log[0]["loss"])
