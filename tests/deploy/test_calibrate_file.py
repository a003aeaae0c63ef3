"""A threshold beside an exported file: it is used, named, refused with another model, replaced and taken back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import Client, serving
from without_torch import run_without_torch

from assertions import explained
from flawmap.deploy import load
from flawmap.deploy.calibrate_file import calibrate_file, undo_file_calibration
from flawmap.deploy.current_model import CurrentModel
from flawmap.deploy.opened_model import open_model
from flawmap.deploy.runtime import load_as_exported
from flawmap.deploy.threshold_choice import ThresholdChoice
from flawmap.detect.calibration import at_rate
from flawmap.runs.sidecar import FORMAT, Sidecar, sidecar_bytes, sidecar_path
from flawmap.runs.versions import read_history
from images import striped, write_good, write_image
from tiny_detector import fitted_detector

IMAGE = striped(5, 40, 56)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("fresh") / "good", 12, first_seed=300)


@pytest.fixture
def parts(tmp_path: Path, onnx_file: Path) -> Path:
    """A copy of the exported file, alone in its folder."""
    (tmp_path / "line").mkdir()
    return Path(shutil.copy(onnx_file, tmp_path / "line" / "parts.onnx"))


def write_sidecar(parts: Path, threshold: float, camera: str | None = None, **changes: object) -> Path:
    facts = load_as_exported(parts).facts
    assert facts.calibration is not None
    calibration = replace(facts.calibration, threshold=threshold)
    sidecar = Sidecar(FORMAT, facts.weights_sha256, facts.precision, camera, calibration, "0.1.0")
    path = sidecar_path(parts, camera)
    path.write_bytes(sidecar_bytes(replace(sidecar, **changes)))
    return path


def test_the_threshold_is_what_the_files_scores_say(parts: Path, good: Path):
    exported = load_as_exported(parts)
    found = [exported.predict(path) for path in sorted(good.glob("*.png"))]
    result = calibrate_file(parts, good, 0.2)
    scores, peaks = ([one.score for one in found], [float(one.anomaly_map.max()) for one in found])
    # with a new image they are 13, of which 2 may be above: the new one and the highest of these
    assert result.calibration is not None and result.former == exported.facts.calibration
    assert (result.calibration.threshold, result.calibration.map_threshold) == (sorted(scores)[-2], sorted(peaks)[-2])
    model = load(parts)
    assert model.facts.calibration == result.calibration
    assert model.facts.threshold_file == str(parts.with_name("parts.threshold.json"))
    assert model.predict(IMAGE).threshold == sorted(scores)[-2]
    assert load_as_exported(parts).facts.threshold_file is None


def test_the_same_verdicts_come_from_detection_and_from_the_graphs_own_input(parts: Path):
    import onnxruntime

    from flawmap.data.images.resize import resize_image

    score = load(parts).predict(IMAGE).score
    session, sizes = onnxruntime.InferenceSession(parts), load(parts).facts.sizes_px
    inputs = {f"square_{size}px": np.array(resize_image(IMAGE, size, size))[None] for size in sizes}
    inputs["size_px"] = np.array(IMAGE.shape[:2], np.int64)
    for threshold in (score - 0.1, score + 0.1):
        sidecar = json.loads(write_sidecar(parts, threshold).read_text())
        given = {"threshold": np.array(sidecar["calibration"]["threshold"], np.float32)}
        (flag,) = session.run(["is_anomalous"], inputs | given)
        assert bool(flag) == load(parts).predict(IMAGE).is_anomalous == (score > threshold)


def test_a_rate_is_taken_from_the_same_images(parts: Path, good: Path):
    calibrated = calibrate_file(parts, good, 0.3).calibration
    assert calibrated is not None
    model = load(parts, false_alarm_rate=0.1)
    assert model.facts.calibration == at_rate(calibrated, 0.1) == calibrate_file(parts, good, 0.1).calibration
    assert model.facts.calibration.threshold > calibrated.threshold


def test_another_file_can_be_named(parts: Path, tmp_path: Path):
    elsewhere = tmp_path / "strict.json"
    shutil.move(write_sidecar(parts, 7.5), elsewhere)
    write_sidecar(parts, 1.5)
    assert load(parts).facts.calibration.threshold == 1.5
    assert load(parts, threshold=elsewhere).facts.calibration.threshold == 7.5


def test_a_camera_has_a_file_of_its_own_and_nothing_else_judges_it(parts: Path, good: Path):
    unknown = explained(lambda: load(parts, camera="left"))
    assert unknown.remedy == f"flawmap calibrate {parts} GOOD_IMAGES --camera left"
    calibrate_file(parts, good, 0.3, camera="left")
    assert sidecar_path(parts, "left").name == "parts.threshold.left.json"
    assert load(parts, camera="left").facts.camera == "left"
    assert load(parts).facts.threshold_file is None
    assert explained(lambda: load(parts, camera="../x")).problem.startswith("there is no threshold for camera")
    mixed = explained(lambda: load(parts, threshold=sidecar_path(parts, "left")))
    assert mixed.problem == "this threshold is for camera 'left', and no camera was asked for"
    assert mixed.remedy == "--camera left"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"weights_sha256": "cd" * 32}, "this threshold belongs to a model with other weights"),
        ({"precision": "fp16"}, "this threshold is for a model in fp16, and this one is in fp32: their scores differ"),
        ({"format": FORMAT + 1}, f"the format is {FORMAT + 1}"),
    ],
)
def test_what_does_not_belong_to_the_model_is_refused(parts: Path, changes: dict, problem: str):
    path = write_sidecar(parts, 1.5, **changes)
    error = explained(lambda: load(parts))
    assert error.problem.startswith(problem) and error.place == str(path)


@pytest.mark.parametrize("content", ["", "{torn", "[]", '{"format": 1}', '{"format": 1, "weights_sha256": 3}'])
def test_a_damaged_file_is_refused_and_calibrating_replaces_it(parts: Path, good: Path, content: str):
    sidecar_path(parts).write_text(content)
    error = explained(lambda: load(parts))
    assert "is damaged" in error.problem and error.place == str(sidecar_path(parts))
    assert calibrate_file(parts, good, 0.3).calibration == load(parts).facts.calibration


def test_the_threshold_of_another_model_is_not_overwritten(parts: Path, good: Path):
    content = write_sidecar(parts, 1.5, weights_sha256="cd" * 32).read_bytes()
    error = explained(lambda: calibrate_file(parts, good, 0.3))
    assert "other weights" in error.problem and "--output" in error.remedy
    assert sidecar_path(parts).read_bytes() == content


def test_changes_are_versions_and_are_taken_back_one_by_one(parts: Path, good: Path):
    exported = load(parts).facts.calibration
    first = calibrate_file(parts, good, 0.3, command="flawmap calibrate").calibration
    second = calibrate_file(parts, good, 0.1)
    assert second.former == first and second.version is not None and second.version.number == 2
    assert (parts.parent / "parts.versions").is_dir()
    assert undo_file_calibration(parts).calibration == first == load(parts).facts.calibration
    assert undo_file_calibration(parts).calibration == exported == load(parts).facts.calibration
    assert not sidecar_path(parts).exists()
    assert "could be taken back" in explained(lambda: undo_file_calibration(parts)).problem
    assert [version.change.kind for version in read_history(parts).versions] == ["calibrate"] * 2 + ["undo"] * 2


def test_an_output_is_new_and_changes_nothing(parts: Path, good: Path, tmp_path: Path):
    output = tmp_path / "thresholds" / "strict.json"
    result = calibrate_file(parts, good, 0.3, output=output)
    assert load(parts).facts.threshold_file is None
    assert load(parts, threshold=output).facts.calibration == result.calibration
    assert explained(lambda: calibrate_file(parts, good, 0.3, output=output)).place == str(output)


def test_a_threshold_from_an_earlier_flawmap_has_one_rate(parts: Path):
    calibration = replace(load(parts).facts.calibration, held_out_peaks=())
    write_sidecar(parts, 1.5, calibration=calibration)
    error = explained(lambda: load(parts, false_alarm_rate=0.2))
    assert "earlier flawmap" in error.problem and error.place == "--false-alarm-rate"


def test_too_few_images_and_a_missing_folder_are_refused(parts: Path, tmp_path: Path):
    few = write_good(tmp_path / "few", 2)
    assert "too few for a threshold" in explained(lambda: calibrate_file(parts, few)).problem
    assert "no such folder" in explained(lambda: calibrate_file(parts, tmp_path / "nowhere")).problem
    assert explained(lambda: calibrate_file(tmp_path / "none.onnx", few)).problem.startswith("no such file")
    assert not sidecar_path(parts).exists()


def test_the_base_installation_calibrates_and_judges(parts: Path, good: Path):
    code = """
from pathlib import Path
from flawmap.deploy.calibrate_file import calibrate_file
result = calibrate_file(Path(sys.argv[2]), sys.argv[3], 0.3)
print(json.dumps([result.calibration.threshold, result.drift]))
"""
    threshold, drift = run_without_torch(code, parts, good)
    assert threshold == load(parts).facts.calibration.threshold and drift is None


# ---- a running server


def test_a_server_of_a_file_takes_a_new_threshold_beside_it(parts: Path, capsys: pytest.CaptureFixture[str]):
    model = CurrentModel(open_model(parts, threads=1), parts)
    exported = model.facts.calibration
    assert model.predict_many([IMAGE])[0].threshold == exported.threshold and model.version is None
    path = write_sidecar(parts, 3.5)
    assert model.predict_many([IMAGE])[0].threshold == 3.5
    assert (model.facts.threshold_file, model.behind) == (str(path), "")
    path.write_text("torn")
    assert model.predict_many([IMAGE])[0].threshold == 3.5 and "is damaged" in model.behind
    write_sidecar(parts, 4.5, weights_sha256="cd" * 32)
    model.refresh()
    assert "other weights" in model.behind and model.facts.calibration.threshold == 3.5
    path.unlink()
    model.refresh()
    assert model.behind == "the threshold in use is no longer on disk; restart the server to use it"
    assert capsys.readouterr().err.count("threshold  ") == 1


def test_a_server_keeps_the_rate_that_it_was_started_with(parts: Path, good: Path):
    choice = ThresholdChoice(false_alarm_rate=0.2)
    calibrated = calibrate_file(parts, good, 0.4).calibration
    model = CurrentModel(open_model(parts, threads=1, choice=choice), parts, choice)
    assert model.facts.calibration == at_rate(calibrated, 0.2) and model.version == 1
    assert undo_file_calibration(parts).version is not None
    calibrate_file(parts, write_good(good.parent.parent / "more", 8, first_seed=900), 0.4)
    model.refresh()
    assert model.facts.calibration.false_alarm_rate == 0.2 and model.facts.calibration.n_held_out == 8


def test_all_answers_name_the_threshold_and_its_file(parts: Path, tmp_path: Path):
    write_sidecar(parts, 3.5)
    image = write_image(tmp_path / "a.png", IMAGE).read_bytes()
    with serving(open_model(parts, threads=1), tmp_path / "reviews.csv", parts) as client:
        client: Client
        readiness, model = client.get("/readyz").json["judged_by"], client.get("/v1/model").json
        answer = client.detect(image).json
    assert readiness["threshold_file"] == model["threshold_file"] == "parts.threshold.json"
    assert readiness["threshold"] == model["threshold"] == answer["threshold"] == 3.5
    assert readiness["false_alarm_rate"] == answer["false_alarm_rate"] == 0.01


def test_a_run_takes_a_named_file_too(tmp_path: Path, parts: Path):
    fitted_detector().save_pretrained(tmp_path / "model")
    path = write_sidecar(parts, 2.25)
    opened = open_model(tmp_path / "model", "cpu", choice=ThresholdChoice(file=path))
    assert opened.facts.calibration.threshold == opened.predict_many([IMAGE])[0].threshold == 2.25
    assert opened.facts.threshold_file == str(path)
