"""A running server takes a new threshold at once, and says when it is behind what lies on disk."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import BrightnessModel, Client, gray_png, serving

from flawmap.calibrate import undo_calibration
from flawmap.deploy.current_model import CurrentModel
from flawmap.deploy.opened_model import OpenedRun, open_model
from flawmap.deploy.threshold_choice import ThresholdChoice
from flawmap.runs.calibration import Calibration, calibration_bytes
from flawmap.runs.cameras import calibration_file, read_calibrations
from flawmap.runs.model_folder import replace_calibration
from flawmap.runs.versions import CALIBRATE, Change, write_version
from images import striped
from tiny_detector import fitted_detector

IMAGE = striped(5, 40, 56)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model and the threshold of one camera."""
    run = tmp_path_factory.mktemp("runs") / "parts"
    run.mkdir()
    (run / "recipe.yaml").write_text("")
    fitted_detector().save_pretrained(run / "model")
    replace_calibration(run / "model", "left", calibration_bytes(with_threshold(-7.0)))
    return run


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "parts"))


def with_threshold(threshold: float) -> Calibration:
    calibration = fitted_detector().calibration_
    assert calibration is not None
    return replace(calibration, threshold=threshold)


def opened(run: Path, camera: str | None = None) -> CurrentModel:
    return CurrentModel(open_model(run, "cpu", choice=ThresholdChoice(camera)), run)


def calibrate(run: Path, threshold: float, camera: str | None = None) -> None:
    content = calibration_bytes(with_threshold(threshold))
    change = Change(CALIBRATE, "flawmap calibrate", camera, threshold, None, 0.01)
    write_version(run / "model", change, {calibration_file(camera): content}, ())
    replace_calibration(run / "model", camera, content)


@pytest.mark.parametrize("path", ["", "model"])
def test_the_next_verdict_uses_the_new_threshold(run: Path, path: str, capsys: pytest.CaptureFixture[str]):
    model = opened(run / path)
    score = model.predict_many([IMAGE])[0].score
    assert model.facts.calibration == fitted_detector().calibration_ and model.version is None
    for number, threshold in enumerate((score - 1, score + 1), start=1):
        calibrate(run, threshold)
        (detection,) = model.predict_many([IMAGE])
        assert (detection.threshold, detection.score) == (threshold, score)
        assert detection.is_anomalous == (score > threshold)
        assert model.facts_of_batch == model.facts and model.facts.calibration.threshold == threshold
        assert (model.behind, model.version) == ("", number)
    said = capsys.readouterr().err
    assert said.count("threshold  ") == 2 and f"{score + 1:.4g} for 1.00% false alarms" in said
    undo_calibration(run)
    assert model.predict_many([IMAGE])[0].threshold == score - 1 and model.version == 3


def test_a_camera_follows_its_own_threshold_alone(run: Path):
    default, left = opened(run), opened(run, "left")
    before = default.facts.calibration
    assert left.facts.calibration == with_threshold(-7.0) and left.facts.camera == "left"
    calibrate(run, 3.5, "left")
    for model in (default, left):
        model.refresh()
    assert default.facts.calibration == before and default.version is None
    assert left.facts.calibration == with_threshold(3.5) and left.version == 1
    calibrate(run, 9.5)
    assert left.predict_many([IMAGE])[0].threshold == 3.5
    assert default.predict_many([IMAGE])[0].threshold == 9.5


def test_thresholds_of_products_that_are_found_by_likeness_are_followed(run: Path, capsys: pytest.CaptureFixture[str]):
    model = open_model(run, "cpu")
    current = CurrentModel(model.with_facts(replace(model.facts, trained={"screw@": 30, "nut@": 30})), run)
    calibrate(run, 5.0, "screw@")
    calibrate(run, 6.0, "nut@")
    current.predict_many([IMAGE])
    assert current.facts_of_batch.judging.thresholds == (model.facts.calibration.threshold, 6.0, 5.0, None)
    assert "product screw: 5 for 1.00% false alarms" in capsys.readouterr().err
    undo_calibration(run, "screw@")
    (run / "model" / calibration_file("nut@")).write_text("{")
    current.refresh()
    assert "a threshold in use is an earlier one" in current.behind
    assert current.facts.judging.calibration_of("nut").threshold == 6.0
    undo_calibration(run, "nut@")
    current.refresh()
    assert current.behind == "" and current.facts.judging.thresholds == (model.facts.calibration.threshold,)


def test_facts_change_between_batches_and_never_within_one(run: Path):
    model = opened(run)
    model.predict_many([IMAGE])
    of_batch = model.facts_of_batch
    calibrate(run, 3.5)
    model.refresh()  # as a request for the model does meanwhile
    assert model.facts.calibration.threshold == 3.5 and model.facts_of_batch is of_batch


def test_the_model_that_was_opened_is_not_changed(run: Path):
    inner = open_model(run, "cpu")
    assert isinstance(inner, OpenedRun)
    before = inner.facts, inner.detector.calibrations_
    model = CurrentModel(inner, run)
    calibrate(run, 3.5)
    model.refresh()
    assert (inner.facts, inner.detector.calibrations_) == before
    assert model.facts.model_id == inner.facts.model_id  # reviews still count


def test_a_threshold_that_was_changed_while_the_model_was_loaded_is_taken(run: Path):
    inner = open_model(run, "cpu")
    calibrate(run, 3.5)
    assert CurrentModel(inner, run).facts.calibration.threshold == 3.5


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda file: file.write_bytes(b"{torn"),
            "the threshold in use is an earlier one: calibration.json is damaged",
        ),
        (lambda file: file.write_bytes(b""), "the threshold in use is an earlier one: calibration.json is damaged"),
        (lambda file: file.write_text('{"threshold": NaN}'), "the threshold in use is an earlier one"),
        (Path.unlink, "the threshold in use is no longer on disk"),
    ],
)
def test_what_cannot_be_read_leaves_the_old_threshold_and_is_said_once(
    run: Path, spoil, reason: str, capsys: pytest.CaptureFixture[str]
):
    model, file = opened(run), run / "model" / "calibration.json"
    before, content = model.facts, file.read_bytes()
    spoil(file)
    for _ in range(3):
        assert model.predict_many([IMAGE])[0].threshold == before.calibration.threshold
    assert model.behind.startswith(reason) and model.facts == before
    assert capsys.readouterr().err.count("behind     ") == 1
    file.write_bytes(content)
    model.refresh()
    assert model.behind == "" and model.facts == before
    calibrate(run, 3.5)
    assert model.predict_many([IMAGE])[0].threshold == 3.5


def test_a_threshold_that_could_not_be_read_for_a_while_is_taken_later(run: Path, monkeypatch: pytest.MonkeyPatch):
    model = opened(run)
    calibrate(run, 3.5)
    read = Path.read_bytes

    def away(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", away)
        model.refresh()
        assert "Input/output error" in model.behind and model.facts.calibration.threshold != 3.5
    assert Path.read_bytes is read
    model.refresh()
    assert model.behind == "" and model.facts.calibration.threshold == 3.5


def test_the_threshold_of_other_weights_is_not_taken(run: Path):
    model = opened(run)
    before = model.facts
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    os.utime(weights, (1, 1))
    calibrate(run, 3.5)
    assert model.predict_many([IMAGE])[0].threshold == before.calibration.threshold
    assert model.behind == "another model is on disk now, and not in use yet" and model.facts == before


@pytest.mark.parametrize("changed", ["model.onnx", "model.bin"])
def test_a_newer_exported_file_is_not_in_use_at_once(tmp_path: Path, changed: str):
    for name in ("model.onnx", "model.bin"):
        (tmp_path / name).write_bytes(b"old")
    model = CurrentModel(BrightnessModel(), tmp_path / "model.onnx")
    assert model.behind == ""
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").replace(tmp_path / changed)
    assert model.predict_many([np.zeros((4, 4, 3), np.uint8)])[0].threshold == 100
    assert model.behind == "another model is on disk now, and not in use yet"
    (tmp_path / changed).unlink()
    model.refresh()
    assert model.behind


def test_without_a_place_on_disk_nothing_changes():
    model = CurrentModel(BrightnessModel())
    model.refresh()
    assert (model.behind, model.version, model.facts) == ("", None, BrightnessModel().facts)
    assert model.attention(np.zeros((11, 4, 3), np.uint8)).shape == (2, 2)


def test_an_uncalibrated_model_takes_its_first_threshold(run: Path):
    replace_calibration(run / "model", None, None)
    model = opened(run)
    assert model.predict_many([IMAGE])[0].threshold is None and model.behind == ""
    calibrate(run, 3.5)
    assert model.predict_many([IMAGE])[0].threshold == 3.5


# ---- over HTTP


@pytest.fixture
def client(run: Path, tmp_path: Path) -> Iterator[Client]:
    with serving(open_model(run, "cpu", choice=ThresholdChoice("left")), tmp_path / "reviews.csv", run) as found:
        yield found


def test_the_interface_says_camera_version_and_threshold(run: Path, client: Client):
    asked = client.get("/v1/model").json
    assert (asked["camera"], asked["version"], asked["threshold"], asked["behind"]) == ("left", None, -7.0, "")
    calibrate(run, 3.5, "left")
    asked = client.get("/v1/model").json  # without any upload in between
    assert (asked["version"], asked["threshold"]) == (1, 3.5)
    answer = client.detect(gray_png(100), "?with_map=true").json
    assert answer["threshold"] == 3.5 and answer["model_id"] == asked["model_id"]
    (run / "model" / "cameras" / "left.json").write_bytes(b"torn")
    assert client.detect(gray_png(101)).json["threshold"] == 3.5
    asked = client.get("/v1/model").json
    assert asked["threshold"] == 3.5 and "left.json is damaged" in asked["behind"]
    assert read_calibrations(run / "model", skip_damaged=True).cameras == {}
