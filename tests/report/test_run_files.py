"""Reading a run folder: what is there, what is missing, what is broken."""

import json
from pathlib import Path

import numpy as np
import pytest

from flawmap.errors import UserError
from flawmap.report.run_files import map_scale_of, read_run


def test_everything_is_read(made_up) -> None:
    files = read_run(made_up.run)
    assert files.is_evaluated
    assert files.threshold == 0.6
    assert len(files.images) == 100
    assert [image.score for image in files.images if image.is_anomalous] == made_up.anomalous.tolist()
    assert [image.score for image in files.images if not image.is_anomalous] == made_up.good.tolist()
    assert all(image.map_file is not None and image.map_file.is_file() for image in files.images)
    assert [image.truth_file is not None for image in files.images] == [False] * 60 + [True] * 40
    assert files.splits == {"held_out": 40, "train": 360}
    assert [row.number for row in files.samples] == ["00", "01", "02", "03"]
    assert set(files.samples[0].files) == {"input", "attention", "masked", "simulated", "footprint", "map"}
    assert len(files.log) == 460  # the half line at the end is training that was interrupted
    scale = map_scale_of(files.metrics)
    assert scale is not None
    assert (scale.low, scale.threshold, scale.high) == (-1.0, 0.5, 2.0)


def test_a_run_that_was_only_trained(trained_run: Path) -> None:
    files = read_run(trained_run)
    assert not files.is_evaluated
    assert files.threshold == 0.6
    assert files.images == ()
    assert map_scale_of(files.metrics) is None


def test_a_run_of_a_recipe_alone(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 0\n")
    files = read_run(tmp_path)
    assert files.threshold is None
    assert files.log == ()
    assert files.samples == ()


def test_a_threshold_beyond_the_map_scale_widens_it() -> None:
    scale = map_scale_of({"map_scale": {"low": 0.0, "high": 1.0}, "map_threshold": 1.5})
    assert scale is not None
    assert (scale.low, scale.threshold, scale.high) == (0.0, 1.5, 1.5)


def test_maps_outside_of_the_run_are_not_read(made_up) -> None:
    table = made_up.run / "evaluation" / "per_image.csv"
    (made_up.run.parent / "secret.png").write_bytes(b"x")
    text = table.read_text().replace("maps/0000_000.png", "../../secret.png").replace("maps/0001_001.png", "")
    table.write_text(text)
    files = read_run(made_up.run)
    assert [image.map_file is None for image in files.images[:3]] == [True, True, False]


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("evaluation/metrics.json", "{", "metrics.json is not valid JSON"),
        ("model/calibration.json", "[1]", "calibration.json holds no JSON object"),
        ("evaluation/per_image.csv", "key,path\na,b\n", "row 2 is not as"),
        (
            "evaluation/per_image.csv",
            "key,path,kind,is_anomalous,score,is_flagged\na,b,c,0,nan,0\n",
            "row 2 has the score nan",
        ),
        ("log.jsonl", "{\n{}\n", "line 1 is not valid JSON"),
    ],
)
def test_broken_files_are_named(made_up, file: str, content: str, problem: str) -> None:
    (made_up.run / file).write_text(content)
    with pytest.raises(UserError, match=problem) as caught:
        read_run(made_up.run)
    assert caught.value.place == str(made_up.run / file)
    assert caught.value.remedy


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is no run") as caught:
        read_run(tmp_path)
    assert "flawmap train" in caught.value.remedy


def test_numbers_that_json_cannot_hold_do_not_stop_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"stage": "pretrain", "step": 0, "loss": float("nan")}) + "\n\n")
    assert np.isnan(read_run(tmp_path).log[0]["loss"])
