"""A model folder: what is written, that it reads back to the same scores, and what damage is noticed."""

import copy
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from flawmap import AnomalyDetector, UserError
from flawmap.detect.pretrained import load_pretrained
from flawmap.runs import model_folder
from flawmap.runs.calibration import calibration_bytes
from flawmap.runs.model_folder import replace_calibration
from images import striped
from tiny_detector import fitted_detector

IMAGES = [striped(seed, 40, 56) for seed in range(3)]


def mistake(folder: Path | str) -> UserError:
    with pytest.raises(UserError) as caught:
        AnomalyDetector.from_pretrained(folder, "cpu")
    assert caught.value.remedy
    return caught.value


# ---- there and back


def test_a_saved_detector_scores_bit_for_bit_the_same(saved):
    ours, theirs = fitted_detector(), AnomalyDetector.from_pretrained(saved, "cpu")
    assert ours.score_samples(IMAGES).tolist() == theirs.score_samples(IMAGES).tolist()
    for one, other in zip(ours.predict(IMAGES), theirs.predict(IMAGES), strict=True):
        assert np.array_equal(one.anomaly_map, other.anomaly_map)
        assert (one.to_json(), one.is_anomalous) == (other.to_json(), other.is_anomalous)


def test_everything_else_comes_back_too(saved):
    ours, theirs = fitted_detector(), AnomalyDetector.from_pretrained(saved, "cpu")
    for name in ("recipe", "calibration_", "origin_", "proxy_", "stage_keys_"):
        assert getattr(theirs, name) == getattr(ours, name), name
    assert not theirs.scorer_.training


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    AnomalyDetector.from_pretrained(saved, "cpu").save_pretrained(tmp_path / "again")
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in (saved, tmp_path / "again"))
    assert first == second


def test_a_folder_holds_its_five_files_and_the_card_says_what_matters(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        *("README.md", "calibration.json", "config.json", "model.safetensors", "recipe.yaml")
    ]
    card, calibration = (saved / "README.md").read_text(), fitted_detector().calibration_
    assert f"threshold: {calibration.threshold:.4g} for 1.00% false alarms, from 2 good images" in card
    assert "random initialization, seed 0" in card and "Not a medical device" in card
    assert "not a test result" in card


def test_a_run_folder_works_as_its_model(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run" / "model")
    assert load_pretrained(tmp_path / "run").calibrations.default == fitted_detector().calibration_


def test_an_uncalibrated_detector_comes_back_uncalibrated(tmp_path):
    detector = copy.copy(fitted_detector())
    detector.calibration_ = detector.proxy_ = None
    detector.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "calibration.json").exists()
    assert "nothing is called anomalous" in (tmp_path / "model" / "README.md").read_text()
    again = AnomalyDetector.from_pretrained(tmp_path / "model", "cpu")
    assert (again.calibration_, again.proxy_) == (None, None)
    assert again.predict(IMAGES[0]).is_anomalous is False


def test_another_calibration_replaces_the_first_in_file_and_card(model):
    other = replace(fitted_detector().calibration_, threshold=12.5, false_alarm_rate=0.25, n_held_out=77)
    replace_calibration(model, None, calibration_bytes(other))
    assert AnomalyDetector.from_pretrained(model, "cpu").calibration_ == other
    assert "threshold: 12.5 for 25.00% false alarms, from 77 good images" in (model / "README.md").read_text()
    (model / "calibration.json").unlink()
    replace_calibration(model, None, calibration_bytes(other))  # also where there was none
    assert load_pretrained(model).calibrations.default == other


# ---- nothing is overwritten, and nothing half-written counts


def test_a_model_is_never_overwritten(saved):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    with pytest.raises(UserError) as caught:
        fitted_detector().save_pretrained(saved)
    assert caught.value.problem == "this folder already holds a model" and caught.value.remedy
    assert before == {p.name: p.read_bytes() for p in saved.iterdir()}


@pytest.mark.parametrize("name", ["README.md", "recipe.yaml"])
def test_other_peoples_files_are_not_overwritten_either(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"this folder already holds {name}"):
        fitted_detector().save_pretrained(tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "mine")]


@pytest.mark.parametrize("crash_at", range(5))
def test_a_save_that_was_cut_off_does_not_count_and_can_be_repeated(tmp_path, monkeypatch, crash_at):
    written = []

    def crashing(write):
        def wrapped(path, content):
            if len(written) == crash_at:
                raise KeyboardInterrupt
            written.append(Path(path).name)
            write(path, content)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("atomic_write_text", "atomic_write_bytes", "write_json"):
            patch.setattr(model_folder, name, crashing(getattr(model_folder, name)))
        with pytest.raises(KeyboardInterrupt):
            fitted_detector().save_pretrained(tmp_path / "model")
    order = ["model.safetensors", "recipe.yaml", "calibration.json", "README.md", "config.json"]
    assert written == order[:crash_at]
    with pytest.raises(UserError):
        AnomalyDetector.from_pretrained(tmp_path / "model", "cpu")
    fitted_detector().save_pretrained(tmp_path / "model")
    assert load_pretrained(tmp_path / "model").calibrations.default == fitted_detector().calibration_


# ---- damage


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "recipe.yaml"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_missing_or_empty_file_is_named(model, name, damage):
    damage(model / name)
    error = mistake(model)
    assert error.problem == f"the model is incomplete: {name} is missing or empty" and error.place == str(model)


def test_a_lost_threshold_is_noticed(model):
    (model / "calibration.json").unlink()
    error = mistake(model)
    assert error.problem == "the model has lost its threshold"
    assert error.place == str(model / "calibration.json")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "recipe.yaml", "calibration.json"])
@pytest.mark.parametrize("content", [b"\x80garbage", b"{"])
def test_a_damaged_file_is_named(model, name, content):
    (model / name).write_bytes(content)
    assert str(model / name) in mistake(model).place


def test_a_truncated_weights_file_is_named(model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    error = mistake(model)
    assert "damaged" in error.problem and error.place == str(path) and "copy the whole folder again" in error.remedy


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_something_else_are_refused(model, change):
    tensors = load_file(model / "model.safetensors")
    name = "detection.neurons.bias"
    if change == "extra":
        tensors["surprise"] = torch.zeros(1)
    elif change == "shape":
        tensors[name] = torch.zeros(3)
    else:
        del tensors[name]
    save_file(tensors, model / "model.safetensors")
    assert "the tensors are not those of test_vit" in mistake(model).problem


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": 2}, "the format is 2; this flawmap reads up to 1"),
        ({"format": 0}, "the format is 0; this flawmap reads 1 and later"),
        ({"architecture": None}, "$.architecture"),
        ({"stage_keys": []}, "$.stage_keys"),
        ({"reference_images": "many"}, "$.reference_images"),
        ({"held_out_simulated_defects": {}}, "$.held_out_simulated_defects"),
        ({"architecture": "vit_imaginary"}, "timm knows no model 'vit_imaginary'"),
        ({"architecture": "resnet18"}, "resnet18 is not a vision transformer"),
    ],
)
def test_settings_that_do_not_fit_are_named(model, changes, problem):
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    error = mistake(model)
    assert problem in error.problem and error.place == str(path)


def test_a_newer_format_is_refused_by_its_version_whatever_else_it_holds(model):
    (model / "config.json").write_text('{"format": 2}')
    error = mistake(model)
    assert "format" in error.problem and error.remedy.startswith("update flawmap")


@pytest.mark.parametrize("content", ["[]", "null", '"text"'])
def test_settings_that_are_not_an_object_are_refused(model, content):
    (model / "config.json").write_text(content)
    assert mistake(model).place == str(model / "config.json")


class Executed:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("with_torch", [False, True])
def test_a_pickle_in_place_of_the_weights_is_refused_and_not_run(model, tmp_path, with_torch):
    trace, weights = tmp_path / "executed", model / "model.safetensors"
    if with_torch:
        torch.save({"encoder": Executed(trace)}, tmp_path / "weights.pt")
        torch.load(tmp_path / "weights.pt", weights_only=False)
        shutil.copyfile(tmp_path / "weights.pt", weights)
    else:
        weights.write_bytes(pickle.dumps({"encoder": Executed(trace)}))
        pickle.loads(weights.read_bytes())
    assert trace.exists()  # whoever unpickles it runs it
    trace.unlink()
    assert "damaged" in mistake(model).problem
    assert not trace.exists()


# ---- no model at all


def test_a_folder_without_a_model_says_what_to_give(tmp_path):
    assert mistake(tmp_path).problem == "no trained model here"
    missing = mistake(tmp_path / "nowhere")
    assert missing.problem.startswith(f"no such folder: {tmp_path / 'nowhere'}") and "run folder" in missing.remedy


def test_a_file_is_no_model(saved):
    assert "is a file, not a model folder" in mistake(saved / "config.json").problem


def test_an_unfinished_run_names_the_command_that_goes_on(tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    (tmp_path / "log.jsonl").write_text("")
    error = mistake(tmp_path)
    assert error.problem == "no trained model here: training was not finished"
    assert error.remedy == f"flawmap train DATA --run {tmp_path} --resume"
